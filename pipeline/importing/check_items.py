"""Raw items in, typed items out.

An item that is left out of the catalogue has no market rights in it, so it would be shown
everywhere. Where a catalogue has rights, a row that cannot be read therefore fails the import.
"""

from pipeline.importing.check_events import ID_LIMIT_BYTES, YEAR_2101_S
from pipeline.importing.staging import Staging, UnusableSourceError

ITEMS_SCOPE = "items: "
TEXT_LIMIT = 500
"""Characters of a title or an artist that are kept."""
YEAR_1000_S = -30_610_224_000

_CHECK = f"""
CREATE TEMP TABLE checked_items AS
SELECT item_id, coalesce(title, '') AS title, coalesce(artist, '') AS artist,
       kept(trimmed(genres)) AS genres, released AS released_text,
       release_s(released) AS released_s, list_sort(kept(trimmed(markets))) AS markets,
       CASE WHEN item_id IS NULL THEN 'missing item_id'
            WHEN strlen(item_id) > {ID_LIMIT_BYTES}
            THEN 'item_id longer than {ID_LIMIT_BYTES} bytes'
            WHEN has_control(item_id) THEN 'control character in item_id' END AS fault
FROM raw_items
"""  # noqa: S608 - our own constants
_COUNT_FAULTS = "SELECT fault, count(*) FROM checked_items WHERE fault IS NOT NULL GROUP BY fault"
_RIGHTS = "SELECT count(*) FROM checked_items WHERE len(markets) > 0"
_MALFORMED_RIGHTS = """
SELECT item_id, market FROM (SELECT item_id, unnest(markets) AS market FROM checked_items)
WHERE NOT is_market(market) ORDER BY ALL LIMIT 1
"""
# Of several rows of one item the one with the narrowest rights is kept.
_INSERT = f"""
INSERT INTO items
SELECT item_id, title[:{TEXT_LIMIT}], artist[:{TEXT_LIMIT}], genres,
       CASE WHEN released_s BETWEEN {YEAR_1000_S} AND {YEAR_2101_S - 1} THEN released_s END, markets
FROM checked_items WHERE fault IS NULL
QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY len(markets) = 0, len(markets), markets,
                           title, artist, genres, released_s) = 1
"""  # noqa: S608 - our own constants
_MENDED = f"""
SELECT 'row of an item that has another row',
       (SELECT count(*) FROM checked_items WHERE fault IS NULL) - (SELECT count(*) FROM items)
UNION ALL
SELECT 'title or artist cut to {TEXT_LIMIT} characters', count(*) FROM checked_items
WHERE fault IS NULL AND greatest(length(title), length(artist)) > {TEXT_LIMIT}
UNION ALL
SELECT 'unreadable released, left empty', count(*) FROM checked_items
WHERE fault IS NULL AND released_text IS NOT NULL
      AND coalesce(released_s NOT BETWEEN {YEAR_1000_S} AND {YEAR_2101_S - 1}, true)
"""  # noqa: S608 - our own constants


def check_items(staging: Staging) -> None:
    """Fill `items` from `raw_items` and count what was left out or mended in `staging.rejected`.

    Raises UnusableSourceError when market rights cannot be read in full.
    """
    connection = staging.connection
    connection.execute(_CHECK)
    connection.execute("DROP TABLE raw_items")
    _count(staging, _COUNT_FAULTS)
    _require_whole_rights(staging)
    connection.execute(_INSERT)
    _count(staging, _MENDED)
    connection.execute("DROP TABLE checked_items")


def _require_whole_rights(staging: Staging) -> None:
    malformed = staging.connection.execute(_MALFORMED_RIGHTS).fetchall()
    if malformed:
        item_id, market = malformed[0]
        raise UnusableSourceError(
            f"items table: item {item_id!r} has market {market!r}, not two capital letters; "
            "with market rights in the table every row must be readable"
        )
    lost = {
        fault: rows for fault, rows in staging.rejected.items() if fault.startswith(ITEMS_SCOPE)
    }
    if lost and staging.connection.execute(_RIGHTS).fetchall()[0][0]:
        counts = ", ".join(f"{rows:,} {fault}" for fault, rows in sorted(lost.items()))
        raise UnusableSourceError(
            f"items table: with market rights in the table every row must be readable ({counts})"
        )


def _count(staging: Staging, query: str) -> None:
    for fault, rows in staging.connection.execute(query).fetchall():
        if rows:
            staging.rejected[ITEMS_SCOPE + fault] += rows
