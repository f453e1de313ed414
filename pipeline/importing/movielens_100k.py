"""MovieLens-100K in RecBole's layout: tab-separated, a header of `name:type`, genres by spaces."""

from pathlib import Path

from pipeline.importing.check_items import ITEMS_SCOPE
from pipeline.importing.staging import (
    Staging,
    UnusableSourceError,
    first_existing,
    require_folder,
)
from pipeline.importing.text_file import Layout, read_first_line, read_text, to_utf8
from pipeline.log_directory import Order

_EVENTS = """
INSERT INTO raw_events (user_id, item_id, value, timestamp)
SELECT user_id, item_id, rating, timestamp FROM ratings
"""
_ITEMS = """
INSERT INTO raw_items
SELECT item_id, movie_title, '', string_split(class, ' '), release_year, [] FROM movies
"""


def stage_movielens_100k(staging: Staging, source: Path) -> Order:
    """Read the folder `source` with ml-100k.inter(.gz) and ml-100k.item(.gz)."""
    require_folder(source, for_what="the folder of MovieLens-100K in RecBole's layout")
    ratings = first_existing(
        source, ("ml-100k.inter", "ml-100k.inter.gz"), for_what="RecBole's interactions"
    )
    movies = first_existing(source, ("ml-100k.item", "ml-100k.item.gz"), for_what="RecBole's items")
    _read(staging, ratings, "ratings", ("user_id", "item_id", "rating", "timestamp"))
    _read(staging, movies, "movies", ("item_id", "movie_title", "release_year", "class"))
    staging.connection.execute(_EVENTS)
    staging.connection.execute(_ITEMS)
    return "time"


def _read(staging: Staging, path: Path, table: str, keep: tuple[str, ...]) -> None:
    names = [name.partition(":")[0] for name in read_first_line(path).split("\t")]
    for name in keep:
        if name not in names:
            raise UnusableSourceError(
                f"{path} has no column {name!r}; its columns are {', '.join(names[:20])}"
            )
    layout = Layout(names, "\t", has_header=True)
    scope = "" if table == "ratings" else ITEMS_SCOPE
    read_text(staging, to_utf8(staging, path), layout, table=table, keep=keep, scope=scope)
