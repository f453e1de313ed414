"""The items of a log as a bundle knows them: texts, codes and rights, read in one go."""

from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from signals.bundle import (
    MARKET_COLUMNS,
    NO_CODE,
    GenreNames,
    ItemKeys,
    ItemTexts,
    ItemTraits,
    MarketRights,
    market_column,
)
from signals.limits import is_market

GENRES_PER_ITEM = 3
MAX_GENRES = NO_CODE
MAX_RIGHTS = NO_CODE

CREATE = """
CREATE TABLE catalogue AS
SELECT p.place, p.key, p.id, coalesce(i.title, '') AS title, coalesce(i.artist, '') AS artist,
       coalesce(i.genres, []) AS genres, i.released,
       list_sort(list_distinct(coalesce(i.markets, []))) AS markets
FROM played p LEFT JOIN items i ON p.id = i.item_id
"""
"""`played` has id, key and place of every item; control characters are in no id (importers refuse
them), so they set apart what stands for an id below."""

_CODES = """
SELECT (dense_rank() OVER (ORDER BY CASE WHEN artist = '' THEN chr(1) || id ELSE artist END) - 1)
           ::UINTEGER AS artists,
       (dense_rank() OVER (ORDER BY CASE WHEN title = '' OR artist = '' THEN chr(1) || id
                           ELSE lower(title) || chr(1) || lower(artist) END) - 1)
           ::UINTEGER AS recordings,
       (dense_rank() OVER (ORDER BY markets) - 1)::UINTEGER AS rights,
       1970 + released / 31556952.0 AS released  -- seconds of a Gregorian year
FROM catalogue ORDER BY place
"""
_GENRES = """
CREATE TABLE item_genres AS
SELECT place, genre, row_number() OVER (PARTITION BY place ORDER BY min(number)) - 1 AS number
FROM (SELECT place, unnest(genres) AS genre, generate_subscripts(genres, 1) AS number
      FROM catalogue)
GROUP BY place, genre;
CREATE TABLE genres AS
SELECT genre, row_number() OVER (ORDER BY genre) - 1 AS code
FROM (SELECT genre FROM item_genres GROUP BY genre ORDER BY count(*) DESC, genre LIMIT $limit)
"""
_ITEM_GENRES = """
SELECT place, row_number() OVER (PARTITION BY place ORDER BY number) - 1 AS slot, code
FROM item_genres JOIN genres USING (genre)
QUALIFY slot < $slots
"""
_TEXTS = """
SELECT coalesce(string_agg(id || title || artist, '' ORDER BY place), '') AS text FROM catalogue
"""
_LENGTHS = """
SELECT octet_length(encode(id)) AS id, octet_length(encode(title)) AS title,
       octet_length(encode(artist)) AS artist
FROM catalogue ORDER BY place
"""


class CatalogueError(Exception):
    """A catalogue that cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of a log, in row order (by item key), as a bundle's views."""

    keys: ItemKeys
    texts: ItemTexts
    traits: ItemTraits
    genre_names: GenreNames
    rights: MarketRights

    def __len__(self) -> int:
        return len(self.keys.keys)


def read_catalogue(db: duckdb.DuckDBPyConnection) -> Catalogue:
    """Return the items of `played`, described by `items`. Raises CatalogueError."""
    db.execute(CREATE)
    keys = db.sql("SELECT key FROM catalogue ORDER BY place").fetchnumpy()["key"]
    codes = db.sql(_CODES).fetchnumpy()
    genres, names = _read_genres(db, len(keys))
    return Catalogue(
        keys=ItemKeys(keys),
        texts=_read_texts(db),
        traits=ItemTraits(
            artists=codes["artists"],
            recordings=codes["recordings"],
            genres=genres,
            released=np.ma.filled(codes["released"].astype(np.float32), np.nan),
            rights=codes["rights"].astype(np.uint16),
        ),
        genre_names=GenreNames.of(names),
        rights=_read_rights(db),
    )


def _read_texts(db: duckdb.DuckDBPyConnection) -> ItemTexts:
    (text,) = db.sql(_TEXTS).fetchall()[0]
    lengths = db.sql(_LENGTHS).fetchnumpy()
    parts = np.stack([lengths[name] for name in ("id", "title", "artist")], axis=1).ravel()
    offsets = np.zeros(len(parts) + 1, dtype=np.uint64)
    np.cumsum(parts, out=offsets[1:], dtype=np.uint64)
    return ItemTexts(np.frombuffer(text.encode(), dtype=np.uint8), offsets)


def _read_genres(
    db: duckdb.DuckDBPyConnection, n_items: int
) -> tuple[NDArray[np.uint16], list[str]]:
    """Return every item's first genres, each once, uint16 [n, 3], and the names in code order.

    Beyond what a code can tell apart the genres with fewest items are left out.
    """
    for statement in _GENRES.split(";"):
        db.execute(statement, {"limit": MAX_GENRES} if "$limit" in statement else None)
    found = db.execute(_ITEM_GENRES, {"slots": GENRES_PER_ITEM}).fetchnumpy()
    codes = np.full((n_items, GENRES_PER_ITEM), NO_CODE, dtype=np.uint16)
    codes[found["place"], found["slot"]] = found["code"]
    names = db.sql("SELECT genre FROM genres ORDER BY code").fetchnumpy()["genre"]
    return codes, names.tolist()


def _read_rights(db: duckdb.DuckDBPyConnection) -> MarketRights:
    """Return the distinct sets of markets, in the order of their codes; none means everywhere."""
    found = db.sql("SELECT DISTINCT markets FROM catalogue ORDER BY markets").fetchall()
    sets = [markets for (markets,) in found]
    if len(sets) > MAX_RIGHTS:
        raise CatalogueError(f"markets: {len(sets)} distinct sets of markets; at most {MAX_RIGHTS}")
    malformed = [name for names in sets for name in names if not name or not is_market(name)]
    if malformed:
        raise CatalogueError(
            f"markets: {malformed[0]!r} is not two capital letters (ISO 3166-1 alpha-2)"
        )
    allowed = np.zeros((max(1, len(sets)), MARKET_COLUMNS), dtype=np.bool_)
    for code, names in enumerate(sets):
        columns = [market_column(name) for name in names] if names else slice(None)
        allowed[code, columns] = True
    return MarketRights(allowed)
