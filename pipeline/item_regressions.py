"""Regressions of plays on plays: which items speak for, and against, which others.

Two of them, both ridge regressions with a closed form. *Successors*: the next play on what was
played before it, each play weighing less the longer ago it was (SLIST of Choi et al.,
"Session-aware linear item-item models for session-based recommendation", WWW 2021, without its
second part). *Companions*: what a user has on all else that the user has (EASE of Steck,
"Embarrassingly shallow autoencoders for sparse data", WWW 2019). Each solves a system as large as
the items that take part, so only the most played do: the rest has neighbour lists, vectors and
trends.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from pipeline.event_log import Events
from signals.bundle import NO_LIST, Companions, Successors

MOST_ITEMS = 5_000
"""Items that take part: the time grows with their cube, 5 s for each solution of 5,000. Sums and
solutions are of float32: the ridge keeps the systems well conditioned."""

LIST_LENGTH = 200
"""Weights kept of every item. Successors on MovieLens-1M: NDCG@10 alone 0.169 with all weights,
0.168 with 200, 0.165 with 100, 0.163 with 200 that are above 0."""

SUCCESSOR_SCALE = 10.0
"""Plays after which a play counts 1/e in the regression."""
SUCCESSOR_WINDOW = 60
"""Plays that are looked back on: what is older weighs below e^-6."""
SUCCESSOR_RIDGE = 1_000.0
COMPANION_RIDGE = 1_000.0
"""Both of a few tried on the validation windows of MovieLens-1M and 30Music, alone: companions on
30Music 0.035, 0.038 and 0.040 in NDCG@20 with 100, 300 and 1,000."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Participants:
    """The items of a regression."""

    rows: NDArray[np.uint32]
    """uint32 [m], rising."""
    places: NDArray[np.int32]
    """int32 [n], the place of each row among them, -1 where it takes no part."""

    @classmethod
    def most_played(cls, events: Events, n_items: int, most: int) -> "Participants":
        """Return the `most` items with most plays, and none without a play."""
        plays = np.bincount(events.rows, minlength=n_items)
        first = np.lexsort((np.arange(n_items), -plays))[:most]
        rows = np.sort(first[plays[first] > 0]).astype(np.uint32)
        places = np.full(n_items, -1, dtype=np.int32)
        places[rows] = np.arange(len(rows))
        return cls(rows, places)


def successors(
    events: Events, n_items: int, *, order: str, most: int = MOST_ITEMS, length: int = LIST_LENGTH
) -> Successors:
    """Return what a play of each item says of the next one: its `length` weights farthest from 0.

    Only the `most` items with most plays have weights.

    W minimises the sum over plays t of |y_t - x_t W|^2 + ridge |W|^2, where x_t[i] is the sum of
    exp(-(t - 1 - a) / scale) over the user's plays a of i before t, and y_t marks the item of t.
    A log without order has no next play, and no weights.
    """
    part = Participants.most_played(events if order != "none" else _none(events), n_items, most)
    size = len(part.rows)
    before, after = np.zeros((2, size, size), dtype=np.float32)
    _accumulate(
        events.users, part.places[events.rows], SUCCESSOR_SCALE, SUCCESSOR_WINDOW, before, after
    )
    before[np.diag_indices(size)] += SUCCESSOR_RIDGE
    with threadpool_limits(1, "blas"):  # the order of its sums depends on their number
        weights = _solved(before, after)
    return Successors(*_lists(weights, part, length))


def companions(
    events: Events, n_items: int, *, most: int = MOST_ITEMS, length: int = LIST_LENGTH
) -> Companions:
    """Return what having an item says of having another: its `length` weights farthest from 0.

    Only the `most` items with most plays have weights.

    With P = (X'X + ridge I)^-1 over the users' items X, item i weighs -P[i, j] / P[j, j] for j.
    """
    part = Participants.most_played(events, n_items, most)
    together = _together(events, part)
    together[np.diag_indices(len(part.rows))] += COMPANION_RIDGE
    with threadpool_limits(1, "blas"):
        inverse = _inverted(together)
    weights = inverse / -np.diag(inverse)
    return Companions(*_lists(weights, part, length))


def _none(events: Events) -> Events:
    return events.where(np.zeros(len(events), dtype=np.bool_))


@njit(cache=True, error_model="numpy")
def _accumulate(
    users: Any, places: Any, scale: float, window: int, before: Any, after: Any
) -> None:
    """Add the sums of x_t x_t' to `before` and those of x_t y_t' to `after`, over every play t.

    A pair of plays a <= b of one user stands in every x_t with t > b: a geometric series. Plays
    whose place is -1 are passed over, and still count as time.
    """
    fades = np.exp(-np.arange(window + 1) / scale)
    ratio = np.exp(-2.0 / scale)
    end = len(users)
    for b in range(len(users) - 1, -1, -1):
        if b + 1 < len(users) and users[b] != users[b + 1]:
            end = b + 1
        if places[b] < 0:
            continue
        series = (1.0 - ratio ** (end - 1 - b)) / (1.0 - ratio)
        before[places[b], places[b]] += series
        for back in range(1, window + 1):
            a = b - back
            if a < 0 or users[a] != users[b]:
                break
            if places[a] >= 0:
                weight = fades[back] * series
                before[places[a], places[b]] += weight
                before[places[b], places[a]] += weight
                after[places[a], places[b]] += fades[back - 1]


def _together(events: Events, part: Participants) -> Matrix:
    """Return how many users have both of each two items, float32 [m, m]."""
    taken = part.places[events.rows]
    pairs = np.unique(
        events.users[taken >= 0].astype(np.int64) * max(1, len(part.rows)) + taken[taken >= 0]
    )
    users, places = np.divmod(pairs, max(1, len(part.rows)))
    counts = np.zeros((len(part.rows), len(part.rows)), dtype=np.float32)
    _count_pairs(users, places, counts)
    return counts


@njit(cache=True, error_model="numpy")
def _count_pairs(users: Any, places: Any, counts: Any) -> None:
    """Count each two places of each user; users stand together."""
    start = 0
    for end in range(1, len(users) + 1):
        if end == len(users) or users[end] != users[start]:
            for one in range(start, end):
                for other in range(start, end):
                    counts[places[one], places[other]] += 1.0
            start = end


def _solved(matrix: Matrix, right: Matrix) -> Matrix:
    """Return the solution of a symmetric positive definite system."""
    if not len(matrix):
        return right
    _, solution, fault = lapack.sposv(matrix, right, overwrite_a=True)
    if fault:
        raise np.linalg.LinAlgError(f"the regression's matrix is not positive definite ({fault})")
    return np.asarray(solution)


def _inverted(matrix: Matrix) -> Matrix:
    """Return the inverse of a symmetric positive definite matrix."""
    if not len(matrix):
        return matrix
    upper, fault = lapack.spotrf(matrix)
    inverse, late_fault = lapack.spotri(upper)
    if fault or late_fault:
        raise np.linalg.LinAlgError(f"the items' matrix is not positive definite ({fault})")
    return np.asarray(np.triu(inverse) + np.triu(inverse, 1).T)


def _lists(
    weights: Matrix, part: Participants, length: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32]]:
    """Return the fields of `PartialLinks`: the weights of each item farthest from 0, not its own.

    `weights` are [m, m] between the participants.
    """
    rows, narrow = part.rows, np.array(weights)
    np.fill_diagonal(narrow, 0)
    kept = min(length, len(rows))
    listed = np.zeros((len(rows), length), dtype=np.uint32)
    scores = np.zeros((len(rows), length), dtype=np.float32)
    for place in range(len(rows)):
        best = np.argsort(-np.abs(narrow[place]), kind="stable")[:kept]
        found = narrow[place, best]
        listed[place, :kept] = np.where(found != 0, rows[best], 0)
        scores[place, :kept] = found
    lists = np.where(part.places < 0, NO_LIST, part.places).astype(np.uint32)
    return lists, listed, scores
