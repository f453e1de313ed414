"""30Music (Turrin et al., RecSys 2015): plays.parquet, one row a play; it has no catalogue."""

from pathlib import Path

from pipeline.importing.staging import Staging, first_existing, require_file
from pipeline.importing.table_file import read_table
from pipeline.log_directory import Order

COLUMNS = ("user_id", "song_id", "ts")

_INSERT = (
    "INSERT INTO raw_events (user_id, item_id, timestamp) SELECT user_id, song_id, ts FROM plays"
)


def stage_30music(staging: Staging, source: Path) -> Order:
    """Read `source`, the folder of plays.parquet or that file."""
    what = "30Music's plays"
    if source.is_dir():
        source = first_existing(source, ("plays.parquet", "plays.csv"), for_what=what)
    require_file(source, for_what=what)
    read_table(staging, source, table="plays", wanted=COLUMNS, required=COLUMNS)
    staging.connection.execute(_INSERT)
    staging.connection.execute("DROP TABLE plays")
    return "time"
