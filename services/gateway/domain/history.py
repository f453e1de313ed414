"""History: what the mesh passes on of what a user played."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.values import History, Rows
from signals.bloom import build_filter
from signals.limits import MAX_HISTORY_PLAYS


@dataclass(frozen=True, slots=True)
class Plays:
    """A user's plays as the history port answers them, oldest first."""

    rows: Rows
    times_s: NDArray[np.int64]
    """int64, unix seconds; 0 where the log has no times."""


class HistoryStore(Protocol):
    """Knows what users played."""

    async def plays(self, user_id: str) -> Plays:
        """Return the plays of `user_id`; none for an unknown user."""
        ...


NO_PLAYS = Plays(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64))


def compose_history(
    plays: Plays, seed_rows: Rows, item_keys: NDArray[np.uint64], now_s: float
) -> History:
    """Return the history of a request, newest first: its seed items, then the stored plays.

    `plays` is oldest first, `seed_rows` newest last.

    Seed items are aged 0. A play in the future of `now_s`, as clocks disagree, is aged 0 too.
    """
    rows = np.concatenate((seed_rows[::-1], plays.rows[::-1]))
    n_sent = min(len(rows), MAX_HISTORY_PLAYS)
    ages_s = np.zeros(n_sent, dtype=np.float32)
    times_s = plays.times_s[::-1][: n_sent - min(len(seed_rows), n_sent)]
    ages_s[n_sent - len(times_s) :] = np.maximum(now_s - times_s, 0.0) * (times_s > 0)
    return History(
        rows=rows[:n_sent], ages_s=ages_s, seen_filter=build_filter(item_keys.take(rows))
    )
