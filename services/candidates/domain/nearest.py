"""Nearest: items whose vectors lie closest to the user's, folded in from the history."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.unseen import is_unseen
from services.candidates.domain.values import NO_CANDIDATES, Candidates, Query
from signals.bundle import Embedding, ItemKeys
from signals.decay import recency_weights
from signals.fold_in import fold_in
from signals.top import best_first

MAX_ROUNDS = 3
"""Searches for one answer: the first asks for twice the limit, each next for four times as many."""


class NearestIndex(Protocol):
    """Finds the items nearest to a vector."""

    def nearest(self, vector: NDArray[np.float32], count: int) -> NDArray[np.uint32]:
        """Return about `count` rows near `vector` (float32 [d]), nearest first."""
        ...


@dataclass(frozen=True, slots=True)
class UserVector:
    """How a user's vector is made of the history."""

    confidence: float
    """c - 1 of the newest play, as in training."""
    regularization: float
    recency_scale: float
    """Plays after which a play counts 1/e; infinite for logs without order."""

    def of(self, history_rows: NDArray[np.uint32], embedding: Embedding) -> NDArray[np.float32]:
        """Return the vector, float32 [d]; `history_rows` newest first, at least one."""
        weights = np.float32(self.confidence) * recency_weights(
            len(history_rows), self.recency_scale
        )
        played = embedding.vectors[history_rows]
        return fold_in(played, embedding.gram, weights, self.regularization)


def nearest_candidates(
    query: Query,
    index: NearestIndex,
    embedding: Embedding,
    items: ItemKeys,
    user_vector: UserVector,
) -> Candidates:
    """Return unseen items near the user's vector, those with the highest inner product first.

    The index finds by angle and approximately, and knows nothing of what was seen: ask it for more
    than the limit, score those exactly, and ask again for more while the list is short. By inner
    product alone long vectors, of items that everybody plays, would fill every list.
    """
    if not len(query.history_rows):
        return NO_CANDIDATES
    vector = user_vector.of(query.history_rows, embedding)
    rows = _unseen_nearest(query, index, items, vector)
    scores = embedding.vectors[rows] @ vector
    best = best_first(rows, scores, query.limit)
    return Candidates(rows[best], scores[best])


def _unseen_nearest(
    query: Query, index: NearestIndex, items: ItemKeys, vector: NDArray[np.float32]
) -> NDArray[np.uint32]:
    count = 2 * query.limit
    rows = np.zeros(0, dtype=np.uint32)
    for _ in range(MAX_ROUNDS):
        found = index.nearest(vector, count)
        rows = found[is_unseen(query, found, items.keys)]
        if len(rows) >= query.limit or count >= len(items.keys):
            break
        count *= 4
    return rows
