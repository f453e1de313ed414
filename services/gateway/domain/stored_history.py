"""What is stored of one user: the newest plays, and a filter of everything the user ever had.

Stored plays are of item keys, which outlive a bundle; rows are found for each request.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from signals.bloom import build_filter, contains, extended, with_room

MAX_STORED_PLAYS = 512
"""Newest plays that are stored: sources and ranker get 200, and some are of items that the bundle
no longer has."""
ROOM = 2
"""A stored filter is long enough for twice its keys: requests add their seed items without making
it worse, and a user may have four times as many items before it holds back 1 in 1,000 unseen ones.
Loading the whole history anew makes it exact again."""

Keys = NDArray[np.uint64]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """One user's history as it is stored."""

    item_keys: Keys
    """uint64 [n], oldest first, `MAX_STORED_PLAYS` at most."""
    times_s: Times
    """int64 [n], unix seconds, parallel; 0 where the log has no times."""
    seen_filter: bytes
    """Bloom filter (`signals.bloom`) of the key of everything the user ever had."""
    keys_held: int
    """Keys that the filter was given, each once as far as it could tell."""
    plays_ever: int
    """Plays that were ever stored, those that newer ones have displaced included."""


def stored_history(item_keys: Keys, times_s: Times) -> StoredHistory:
    """Return what is stored of a user with these plays, parallel and oldest first."""
    return StoredHistory(
        item_keys=item_keys[-MAX_STORED_PLAYS:],
        times_s=times_s[-MAX_STORED_PLAYS:],
        seen_filter=build_filter(item_keys[::-1], room=ROOM),
        keys_held=len(np.unique(item_keys)),
        plays_ever=len(item_keys),
    )


def appended(stored: StoredHistory, item_keys: Keys, times_s: Times) -> StoredHistory:
    """Return `stored` with newer plays behind, parallel and oldest first.

    While every play is still stored by its key the filter is built anew, exact; then it grows.
    """
    all_keys = np.concatenate((stored.item_keys, item_keys))
    all_times_s = np.concatenate((stored.times_s, times_s))
    if stored.plays_ever == len(stored.item_keys):
        return stored_history(all_keys, all_times_s)
    unheld = np.unique(item_keys[~contains(stored.seen_filter, item_keys)])
    keys_held = stored.keys_held + len(unheld)
    return StoredHistory(
        item_keys=all_keys[-MAX_STORED_PLAYS:],
        times_s=all_times_s[-MAX_STORED_PLAYS:],
        seen_filter=extended(with_room(stored.seen_filter, keys_held * ROOM), unheld),
        keys_held=keys_held,
        plays_ever=stored.plays_ever + len(item_keys),
    )


NO_STORED_HISTORY = stored_history(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))
