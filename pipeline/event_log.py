"""The interaction log as arrays: what training reads from a log directory."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue import Catalogue, CatalogueError, read_catalogue
from pipeline.log_directory import EVENTS_FILE, ITEMS_FILE, read_log_summary

KEY_SQL = "('0x' || md5({column})[1:16])::UBIGINT"
"""`signals.keys.item_key` in SQL."""


class LogError(Exception):
    """A log that cannot be trained on; the message says why."""


@dataclass(frozen=True, slots=True)
class Events:
    """Plays as parallel columns, sorted by user key, then oldest first."""

    users: NDArray[np.uint32]
    """Place of the user in `EventLog.user_keys`."""
    rows: NDArray[np.uint32]
    """Row of the item in the catalogue."""
    times_s: NDArray[np.int64]
    """Unix seconds; 0 where the log has no times."""
    markets: NDArray[np.uint16]
    """`signals.bundle.market_column` of the play, or `signals.bundle.NO_MARKET`."""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: NDArray[np.bool_]) -> "Events":
        """Return the events that `mask` keeps, in their order."""
        return Events(*(getattr(self, name)[mask] for name in Events.__slots__))


@dataclass(frozen=True, slots=True)
class EventLog:
    """A whole log: its events, users and items."""

    order: str
    """ "time", "position" or "none"."""
    events: Events
    user_keys: NDArray[np.uint64]
    """uint64 [u], strictly increasing."""
    catalogue: Catalogue
    unplayed_items: int
    """Items of the items table that nobody played: not served until somebody does."""


def read_event_log(directory: Path) -> EventLog:
    """Read a log directory. Raises LogError, or what `read_log_summary` raises."""
    summary = read_log_summary(directory)
    try:
        with duckdb.connect() as db:
            db.read_parquet(str(directory / EVENTS_FILE)).create_view("events")
            db.read_parquet(str(directory / ITEMS_FILE)).create_view("items")
            return _read(db, summary.order)
    except CatalogueError as exc:
        raise LogError(str(exc)) from exc
    except duckdb.Error as exc:
        raise LogError(f"{directory} cannot be read: {exc}") from exc


def _read(db: duckdb.DuckDBPyConnection, order: str) -> EventLog:
    _refuse_doubled_items(db)
    _rank_by_key(db, "user_id", "users")
    _rank_by_key(db, "item_id", "played")
    users = db.sql("SELECT key FROM users ORDER BY place").fetchnumpy()
    return EventLog(
        order=order,
        events=_read_events(db),
        user_keys=users["key"],
        catalogue=read_catalogue(db),
        unplayed_items=_count_unplayed(db),
    )


def _refuse_doubled_items(db: duckdb.DuckDBPyConnection) -> None:
    doubled = db.sql(
        "SELECT item_id FROM items GROUP BY item_id HAVING count(*) > 1 ORDER BY item_id LIMIT 1"
    ).fetchall()
    if doubled:
        raise LogError(f"{ITEMS_FILE} has more than one row of item {doubled[0][0]!r}")


def _rank_by_key(db: duckdb.DuckDBPyConnection, column: str, table: str) -> None:
    """Create `table` (id, key, place) of the distinct ids, places in key order."""
    key = KEY_SQL.format(column="id")
    db.sql(
        f"CREATE TABLE {table} AS SELECT id, key, row_number() OVER (ORDER BY key) - 1 AS place "  # noqa: S608 - names are ours
        f"FROM (SELECT id, {key} AS key FROM (SELECT DISTINCT {column} AS id FROM events))"
    )
    clash = db.sql(
        f"SELECT list(id ORDER BY id) FROM {table} GROUP BY key HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - names are ours
    ).fetchall()
    if clash:
        raise LogError(f"{column}: {clash[0][0]} share one 64-bit key; rename one of them")


def _read_events(db: duckdb.DuckDBPyConnection) -> Events:
    columns = db.sql(
        """
        SELECT u.place::UINTEGER AS users, i.place::UINTEGER AS rows,
               coalesce(e.timestamp, 0)::BIGINT AS times_s,
               CASE WHEN regexp_full_match(e.market, '[A-Z]{2}')
                    THEN (ascii(e.market) - 65) * 26 + ascii(e.market[2]) - 65
                    ELSE 65535 END::USMALLINT AS markets
        FROM events e JOIN users u ON e.user_id = u.id JOIN played i ON e.item_id = i.id
        ORDER BY u.place, e.position, e.timestamp, i.place
        """
    ).fetchnumpy()
    return Events(*(columns[name] for name in Events.__slots__))


def _count_unplayed(db: duckdb.DuckDBPyConnection) -> int:
    counted = db.sql(
        "SELECT count(*) FROM items WHERE item_id NOT IN (SELECT id FROM played)"
    ).fetchall()
    return int(counted[0][0])
