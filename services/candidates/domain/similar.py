"""What is linked to the items that the user played last."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.unseen import first_unseen
from services.candidates.domain.values import NO_CANDIDATES, Candidates, Query
from signals.bundle import ItemKeys
from signals.tiers import Tier

RECENT_PLAYS = 50
"""Plays that are looked up first."""

LOOKED_AT = 4
"""Times the limit: as many of the best are sorted and tested first, and all only where that many
leave the list short."""


Scored = Callable[[NDArray[np.uint32], int | None], tuple[NDArray[np.uint32], NDArray[np.float32]]]
"""Returns the items that plays (rows, newest first) speak for, best first, and scores above 0:
at most as many as the second argument says."""


def similar_candidates(query: Query, scored: Scored, items: ItemKeys) -> Candidates:
    """Return the unseen items that the plays speak for most.

    Somebody who plays the same songs again has had all that follows them: where the newest plays
    leave the list short, the whole history of the request is looked up.
    """
    if not len(query.history_rows):
        return NO_CANDIDATES
    found = _from(query.history_rows[:RECENT_PLAYS], query, scored, items)
    if len(found.rows) < query.limit and len(query.history_rows) > RECENT_PLAYS:
        return _from(query.history_rows, query, scored, items)
    return found


def _from(recent: NDArray[np.uint32], query: Query, scored: Scored, items: ItemKeys) -> Candidates:
    rows, scores = scored(recent, LOOKED_AT * query.limit)
    best = first_unseen(query, rows, items.keys)
    if len(best) < query.limit and len(rows) == LOOKED_AT * query.limit:
        rows, scores = scored(recent, None)
        best = first_unseen(query, rows, items.keys)
    return Candidates(rows[best], scores[best], tier=Tier.RECENT_ITEMS)
