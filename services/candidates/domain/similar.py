"""What is linked to the items that the user played last."""

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.unseen import first_unseen
from services.candidates.domain.values import NO_CANDIDATES, Candidates, Query
from signals.bundle import ItemKeys, ItemLinks
from signals.decay import recency_weights
from signals.item_to_item import neighbour_scores
from signals.tiers import Tier

RECENT_PLAYS = 50
"""Plays that are looked up first; at `RECENCY_SCALE` the 50th weighs 7e-3 of the newest."""

RECENCY_SCALE = 10.0
"""Plays after which a play counts 1/e."""

LOOKED_AT = 4
"""Times the limit: as many of the best are sorted and tested first, and all only where that many
leave the list short."""


def similar_candidates(
    query: Query, links: ItemLinks, items: ItemKeys, recency_scale: float = RECENCY_SCALE
) -> Candidates:
    """Return the unseen items with the highest recency-weighted sum of links from the plays.

    Somebody who plays the same songs again has had all that follows them: where the newest plays
    leave the list short, the whole history of the request is looked up.
    """
    if not len(query.history_rows):
        return NO_CANDIDATES
    found = _from(query.history_rows[:RECENT_PLAYS], query, links, items, recency_scale)
    if len(found.rows) < query.limit and len(query.history_rows) > RECENT_PLAYS:
        return _from(query.history_rows, query, links, items, recency_scale)
    return found


def _from(
    recent: NDArray[np.uint32],
    query: Query,
    links: ItemLinks,
    items: ItemKeys,
    recency_scale: float,
) -> Candidates:
    weights = recency_weights(len(recent), recency_scale)
    rows, scores = neighbour_scores(links, recent, weights, LOOKED_AT * query.limit)
    best = first_unseen(query, rows, items.keys)
    if len(best) < query.limit and len(rows) == LOOKED_AT * query.limit:
        rows, scores = neighbour_scores(links, recent, weights)
        best = first_unseen(query, rows, items.keys)
    return Candidates(rows[best], scores[best], tier=Tier.RECENT_ITEMS)
