"""What the pipeline's tests share: log directories and event columns made of a few plays."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np

from pipeline.event_log import EventLog, Events, read_event_log
from pipeline.log_directory import Order, connect, new_log_directory, write_log
from signals.bundle import NO_MARKET
from signals.keys import item_key


@dataclass(frozen=True, slots=True)
class Play:
    user: str
    item: str
    at_s: int | None = None
    market: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    title: str | None = None
    artist: str | None = None
    genres: Sequence[str] = field(default_factory=list)
    markets: Sequence[str] = field(default_factory=list)


def write_event_log(
    out: Path,
    plays: Sequence[Play],
    *,
    items: Mapping[str, Item] | None = None,
    order: Order = "time",
) -> Path:
    """Write a log directory; a play's position is its place in `plays`."""
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
        _insert_events(db, plays, has_order=order != "none")
        for item_id, item in (items or {}).items():
            db.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, NULL, ?)",
                [item_id, item.title, item.artist, list(item.genres), list(item.markets)],
            )
        with new_log_directory(out) as directory:
            write_log(db, directory, log_format="events", order=order, rejected={})
    return out


def _insert_events(
    db: duckdb.DuckDBPyConnection, plays: Sequence[Play], *, has_order: bool
) -> None:
    db.execute(
        "INSERT INTO events SELECT unnest($users::VARCHAR[]), unnest($items::VARCHAR[]), "
        "unnest($times::BIGINT[]), unnest($positions::BIGINT[]), 'play', 1.0, "
        "unnest($markets::VARCHAR[])",
        {
            "users": [play.user for play in plays],
            "items": [play.item for play in plays],
            "times": [play.at_s for play in plays],
            "positions": [place if has_order else None for place in range(len(plays))],
            "markets": [play.market for play in plays],
        },
    )


def event_log(
    folder: Path,
    plays: Sequence[Play],
    *,
    items: Mapping[str, Item] | None = None,
    order: Order = "time",
) -> EventLog:
    """Write a log directory below `folder` and read it."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "log"
    return read_event_log(write_event_log(out, plays, items=items, order=order))


def events(
    users: Sequence[int],
    rows: Sequence[int],
    times_s: Sequence[int] | None = None,
    markets: Sequence[int] | None = None,
) -> Events:
    """Return event columns as they are, without a log."""
    n = len(users)
    return Events(
        users=np.array(users, dtype=np.uint32),
        rows=np.array(rows, dtype=np.uint32),
        times_s=np.array(times_s if times_s is not None else [0] * n, dtype=np.int64),
        markets=np.array(markets if markets is not None else [NO_MARKET] * n, dtype=np.uint16),
    )


def item_ids(log: EventLog) -> list[str]:
    """Return the external id of every row."""
    return [log.catalogue.texts.item_id(row) for row in range(len(log.catalogue))]


def place_of_user(log: EventLog, user_id: str) -> int:
    """Return the place of a user in the log's keys."""
    return int(np.searchsorted(log.user_keys, np.uint64(item_key(user_id))))
