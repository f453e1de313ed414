"""MovieLens-1M: GroupLens' .dat files, or interactions.csv in their place, with movies.dat."""

from pathlib import Path

from pipeline.importing.check_items import ITEMS_SCOPE
from pipeline.importing.events import stage_events
from pipeline.importing.staging import Staging, first_existing, require_folder
from pipeline.importing.text_file import Layout, read_text, to_utf8
from pipeline.log_directory import Order

_RATINGS = Layout(("user_id", "item_id", "value", "timestamp"), "::", has_header=False)
_MOVIES = Layout(("item_id", "title", "genres"), "::", has_header=False)

_EVENTS = """
INSERT INTO raw_events (user_id, item_id, value, timestamp)
SELECT user_id, item_id, value, timestamp FROM ratings
"""
# "Toy Story (1995)": the year says when it was released, and stays in the title.
_ITEMS = r"""
INSERT INTO raw_items
SELECT item_id, title, '', string_split(genres, '|'),
       nullif(regexp_extract(title, '\((\d{4})\)\s*$', 1), ''), []
FROM movies
"""


def stage_movielens_1m(staging: Staging, source: Path) -> Order:
    """Read the folder `source` with ratings.dat or interactions.csv(.gz), and movies.dat."""
    require_folder(source, for_what="the folder of MovieLens-1M")
    movies = first_existing(source, ("movies.dat",), for_what="MovieLens-1M's films")
    ratings = first_existing(
        source,
        ("ratings.dat", "interactions.csv.gz", "interactions.csv"),
        for_what="MovieLens-1M's ratings",
    )
    _stage_movies(staging, movies)
    if ratings.name != "ratings.dat":
        return stage_events(staging, ratings)
    read_text(staging, ratings, _RATINGS, table="ratings", keep=_RATINGS.columns)
    staging.connection.execute(_EVENTS)
    return "time"


def _stage_movies(staging: Staging, movies: Path) -> None:
    copy = to_utf8(staging, movies)
    read_text(staging, copy, _MOVIES, table="movies", keep=_MOVIES.columns, scope=ITEMS_SCOPE)
    staging.connection.execute(_ITEMS)
