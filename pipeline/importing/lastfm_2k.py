"""HetRec 2011 Last.fm-2K: play counts per user and artist, without order; tags as genres."""

from pathlib import Path

from pipeline.importing.check_items import ITEMS_SCOPE
from pipeline.importing.staging import Staging, require_file, require_folder
from pipeline.importing.text_file import Layout, read_text, starts_with_header, to_utf8
from pipeline.log_directory import Order

GENRES_PER_ARTIST = 5
"""The artist's tags that most users gave it; equal counts in alphabetical order."""

_FILES = {
    "user_artists": ("user_id", "artist_id", "plays"),
    "artists": ("artist_id", "name", "url", "picture_url"),
    "tags": ("tag_id", "tag"),
    "user_taggedartists": ("user_id", "artist_id", "tag_id", "day", "month", "year"),
}
_EVENTS = """
INSERT INTO raw_events (user_id, item_id, value)
SELECT user_id, artist_id, plays FROM user_artists
"""
_ITEMS = f"""
INSERT INTO raw_items
WITH applied AS (
    SELECT artist_id, tag, count(DISTINCT user_id) AS users
    FROM user_taggedartists JOIN tags USING (tag_id) GROUP BY ALL
), genres AS (
    SELECT artist_id, list(tag ORDER BY users DESC, tag)[:{GENRES_PER_ARTIST}] AS genres
    FROM applied GROUP BY artist_id
)
SELECT artist_id, name, name, genres, NULL, [] FROM artists LEFT JOIN genres USING (artist_id)
"""  # noqa: S608 - our own constant


def stage_lastfm_2k(staging: Staging, source: Path) -> Order:
    """Read the folder `source` with HetRec's .dat files."""
    require_folder(source, for_what="the folder of HetRec's Last.fm-2K")
    for table, columns in _FILES.items():
        path = require_file(source / f"{table}.dat", for_what="a file of HetRec's Last.fm-2K")
        layout = Layout(columns, "\t", has_header=starts_with_header(path, "\t"))
        scope = "" if table == "user_artists" else f"{ITEMS_SCOPE}{table}.dat: "
        read_text(staging, to_utf8(staging, path), layout, table=table, keep=columns, scope=scope)
    staging.connection.execute(_EVENTS)
    staging.connection.execute(_ITEMS)
    return "none"
