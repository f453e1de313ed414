"""History: what the mesh passes on of what a user played."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.failures import RULES, Failure
from services.gateway.domain.stored_history import StoredHistory
from services.gateway.domain.values import NOT_WAITED_FOR, History, HistoryReading, Rows
from signals.bloom import build_filter, extended
from signals.bundle import ItemKeys
from signals.limits import MAX_HISTORY_PLAYS


@dataclass(frozen=True, slots=True)
class Plays:
    """A user's plays as the history port answers them, oldest first."""

    rows: Rows
    times_s: NDArray[np.int64]
    """int64, unix seconds; 0 where the log has no times."""
    seen_filter: bytes | None = None
    """Bloom filter of the keys of everything the user ever had; None: that is `rows`."""
    reading: HistoryReading = NOT_WAITED_FOR
    """How they were come by."""


class HistoryStore(Protocol):
    """Knows what users played."""

    async def plays(self, user_id: str, *, timeout_s: float) -> Plays:
        """Return the plays of `user_id` within `timeout_s`, which may be 0 or less.

        There are none for an unknown user, and for an empty id. Never raises: what goes wrong is
        in `Plays.reading`.
        """
        ...


NO_PLAYS = Plays(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64))


def failed_plays(failure: Failure, latency_s: float | None) -> Plays:
    """Return what is known of a user whose history could not be read, as the failure policy has it.

    `latency_s` is None when nothing was asked.
    """
    return replace(NO_PLAYS, reading=HistoryReading(RULES[failure].status, latency_s))


def plays_of(stored: StoredHistory, items: ItemKeys, reading: HistoryReading) -> Plays:
    """Return the stored plays of the items that a bundle knows; the others stay in the filter."""
    rows = items.rows_of_keys(stored.item_keys)
    known = rows >= 0
    return Plays(rows[known].astype(np.uint32), stored.times_s[known], stored.seen_filter, reading)


def compose_history(
    plays: Plays, seed_rows: Rows, item_keys: NDArray[np.uint64], now_s: float
) -> History:
    """Return the history of a request, newest first: its seed items, then the stored plays.

    `plays` is oldest first, `seed_rows` newest last.

    Seed items are played now, so aged 0. A play in the future of `now_s`, as clocks disagree, is
    aged 0 too.
    """
    rows = np.concatenate((seed_rows[::-1], plays.rows[::-1]))
    n_sent = min(len(rows), MAX_HISTORY_PLAYS)
    ages_s = np.zeros(n_sent, dtype=np.float32)
    times_s = plays.times_s[::-1][: n_sent - min(len(seed_rows), n_sent)]
    ages_s[n_sent - len(times_s) :] = np.maximum(now_s - times_s, 0.0) * (times_s > 0)
    seen_keys = item_keys.take(rows)
    return History(
        rows=rows[:n_sent],
        ages_s=ages_s,
        seen_filter=build_filter(seen_keys)
        if plays.seen_filter is None
        else extended(plays.seen_filter, seen_keys),
    )
