"""Similar: what tends to follow the items that the user played last."""

from services.candidates.domain.unseen import is_unseen
from services.candidates.domain.values import NO_CANDIDATES, Candidates, Query
from signals.bundle import ItemKeys, Neighbours
from signals.decay import recency_weights
from signals.item_to_item import neighbour_scores
from signals.top import best_first

RECENT_PLAYS = 50
"""Plays that are looked up; at `RECENCY_SCALE` the 50th weighs 7e-3 of the newest."""

RECENCY_SCALE = 10.0
"""Plays after which a play counts 1/e."""


def similar_candidates(
    query: Query, neighbours: Neighbours, items: ItemKeys, recency_scale: float = RECENCY_SCALE
) -> Candidates:
    """Return the unseen items with the highest recency-weighted neighbour score."""
    recent = query.history_rows[:RECENT_PLAYS]
    if not len(recent):
        return NO_CANDIDATES
    rows, scores = neighbour_scores(neighbours, recent, recency_weights(len(recent), recency_scale))
    unseen = is_unseen(query, rows, items.keys)
    rows, scores = rows[unseen], scores[unseen]
    best = best_first(rows, scores, query.limit)
    return Candidates(rows[best], scores[best])
