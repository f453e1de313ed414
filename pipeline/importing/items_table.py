"""The items table: CSV or Parquet with item_id, and what else is known of the items."""

from pathlib import Path

from pipeline.importing.check_items import ITEMS_SCOPE
from pipeline.importing.staging import Staging, require_file
from pipeline.importing.table_file import read_table

COLUMNS = ("item_id", "title", "artist", "genres", "released", "markets")

_INSERT = """
INSERT INTO raw_items
SELECT item_id, title, artist, string_split(genres, '|'), released, string_split(markets, '|')
FROM {table}
"""


def stage_items_table(staging: Staging, path: Path) -> None:
    """Fill `raw_items` from the file `path`, in the place of the layout's own catalogue."""
    require_file(path, for_what="an items table in CSV or Parquet")
    read_table(
        staging, path, table="items_table", wanted=COLUMNS, required=("item_id",), scope=ITEMS_SCOPE
    )
    staging.connection.execute("DELETE FROM raw_items")
    staging.connection.execute(_INSERT.format(table="items_table"))
    staging.connection.execute("DROP TABLE items_table")
