"""Transitions: which items tend to follow which, as lists and as whole weights."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit

from pipeline.event_log import Events
from pipeline.pair_weights import Participants, rounded
from signals.bundle import Neighbours, Transitions

LIST_LENGTH = 200
"""Neighbours kept of every item: recall of the lists on MovieLens-1M rises little beyond."""

MAX_DISTANCE = 10
"""Plays apart at most; a pair at distance d counts 1/d. MovieLens-1M gained nothing beyond 10."""

BACKWARD = 0.3
"""What a pair counts against the direction of play. 30Music likes 1, MovieLens-1M 0: NDCG on the
validation window was within 3 % of the best of each at 0.3."""

POPULARITY_EXPONENT = 0.3
"""A neighbour's score is divided by its popularity to this power, so that hits do not lead every
list."""

UNORDERED_PLAYS = 200
"""Plays of one user that count as together in a log without order; bounds the pairs to n^2."""

SOON, AT_ONCE, BEFORE = range(3)
TRANSITION_SCALES = (np.inf, 1.0, 4.0)
"""Plays after which a play counts 1/e for what came soon after it, right after it and before it."""


def transitions(events: Events, n_items: int, *, order: str, most: int) -> Transitions:
    """Return how often each of the `most` played items was played near another.

    Within `MAX_DISTANCE` plays after it, each 1/distance; right after it; and within as many before
    it; over popularity(j)^0.3. A log without order has none.
    """
    known = events if order != "none" else events.where(np.zeros(len(events), dtype=np.bool_))
    part = Participants.most_played(known, n_items, most)
    counts = np.zeros((len(TRANSITION_SCALES), len(part.rows), len(part.rows)), dtype=np.float32)
    _count_transitions(known.users, part.places[known.rows], MAX_DISTANCE, counts)
    popularity = np.maximum(np.bincount(events.rows, minlength=n_items)[part.rows], 1)
    counts *= (popularity**-POPULARITY_EXPONENT).astype(np.float32)
    return rounded(Transitions, counts, part, np.array(TRANSITION_SCALES))


@njit(cache=True, error_model="numpy")
def _count_transitions(users: Any, places: Any, most_distance: int, counts: Any) -> None:
    """Add 1 for each pair of plays next to each other, and 1/distance for those that are near."""
    for late in range(len(users)):
        for distance in range(1, most_distance + 1):
            early = late - distance
            if early < 0 or users[early] != users[late]:
                break
            if places[early] >= 0 and places[late] >= 0:
                if distance == 1:
                    counts[AT_ONCE, places[early], places[late]] += 1.0
                counts[SOON, places[early], places[late]] += 1.0 / distance
                counts[BEFORE, places[late], places[early]] += 1.0 / distance


def neighbour_lists(
    events: Events, n_items: int, *, order: str, length: int = LIST_LENGTH
) -> Neighbours:
    """Return for every item its best `length` neighbours.

    With order, score(i, j) = (sum over plays of j within `MAX_DISTANCE` after i of 1/distance, plus
    `BACKWARD` times the same before i) / popularity(j)^0.3. Without ("none"), the number of users
    who had both, over popularity(j)^0.3. Each item's scores are then scaled to sum to 1 over all
    its neighbours. An item is not its own neighbour; ties go to the lower row.
    """
    counts = _together(events, n_items) if order == "none" else _following(events, n_items)
    popularity = np.maximum(np.bincount(events.rows, minlength=n_items), 1).astype(np.float64)
    weights = (counts @ sp.diags_array(popularity**-POPULARITY_EXPONENT)).tocsr()
    weights.setdiag(0)
    weights.eliminate_zeros()
    return _longest_first(weights, length)


def _following(events: Events, n_items: int) -> sp.csr_array:
    """Return float64 [n_items, n_items]: how closely and how often j followed i."""
    total = sp.csr_array((n_items, n_items), dtype=np.float64)
    for step in range(1, MAX_DISTANCE + 1):
        same_user = events.users[:-step] == events.users[step:]
        pairs = (events.rows[:-step][same_user], events.rows[step:][same_user])
        weight = np.full(int(same_user.sum()), 1.0 / step)
        total += sp.coo_array((weight, pairs), shape=(n_items, n_items)).tocsr()
    return total + BACKWARD * total.T


def _together(events: Events, n_items: int) -> sp.csr_array:
    """Return float64 [n_items, n_items]: users who had both i and j."""
    first = np.searchsorted(events.users, events.users)
    counted = np.arange(len(events)) - first < UNORDERED_PLAYS
    pairs = (events.users[counted], events.rows[counted])
    shape = (int(events.users.max(initial=0)) + 1, n_items)
    had = sp.coo_array((np.ones(int(counted.sum())), pairs), shape=shape).tocsr()
    had.data = np.minimum(had.data, 1.0)
    return (had.T @ had).tocsr()


def _longest_first(weights: sp.csr_array, length: int) -> Neighbours:
    """Cut every row of `weights` to its `length` greatest, as padded lists."""
    n_items = weights.shape[0]
    weights.sort_indices()
    of_row = np.repeat(np.arange(n_items), np.diff(weights.indptr))
    order = np.lexsort((weights.indices, -weights.data, of_row))
    place = np.arange(len(order)) - weights.indptr[of_row]
    kept = place < length
    totals = np.maximum(weights.sum(axis=1), np.finfo(np.float64).tiny)
    rows = np.zeros((n_items, length), dtype=np.uint32)
    scores = np.zeros((n_items, length), dtype=np.float32)
    source, target = of_row[kept], order[kept]
    rows[source, place[kept]] = weights.indices[target]
    scores[source, place[kept]] = weights.data[target] / totals[source]
    return Neighbours(rows, scores)
