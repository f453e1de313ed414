"""The project's own form, docs/events-format.md: one CSV or Parquet file with named columns."""

from pathlib import Path

from pipeline.importing.staging import Staging, require_file
from pipeline.importing.table_file import read_table
from pipeline.log_directory import Order

COLUMNS = ("user_id", "item_id", "timestamp", "position", "event", "value", "rating", "market")

_INSERT = """
INSERT INTO raw_events
SELECT user_id, item_id, timestamp, position, event, {value}, market FROM events_file
"""


def stage_events(staging: Staging, source: Path) -> Order:
    """Read the file `source`; what it is ordered by follows from its columns."""
    require_file(source, for_what="an events file in CSV or Parquet")
    found = read_table(
        staging, source, table="events_file", wanted=COLUMNS, required=("user_id", "item_id")
    )
    staging.connection.execute(_INSERT.format(value="value" if "value" in found else "rating"))
    staging.connection.execute("DROP TABLE events_file")
    if "timestamp" in found:
        return "time"
    return "position" if "position" in found else "none"
