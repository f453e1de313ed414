"""Regressions of plays on plays: which items speak for, and against, which others.

Two of them, both ridge regressions with a closed form. *Successors*: the next play on what was
played before it (SLIST of Choi et al., "Session-aware linear item-item models for session-based
recommendation", WWW 2021, without its second part), with weights of their own for what was played
just now, lately, and a while ago: all fade, each at its scale, and are solved for together.
*Companions*: what a user has on all else that the user has (EASE of Steck, "Embarrassingly shallow
autoencoders for sparse data", WWW 2019), made to do without a share of it (EDLAE of Steck,
"Autoencoders that don't overfit towards the identity", NeurIPS 2020). Both solve systems as large
as the items that take part, so only the most played do: the rest has neighbour lists, vectors and
trends.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from pipeline.event_log import Events
from pipeline.pair_weights import Participants, rounded
from signals.bundle import Companions, Successors

SUCCESSOR_SCALES = (0.5, 3.0, 20.0)
"""Plays after which a play counts 1/e, with weights of its own at each. Alone, NDCG@10 on
MovieLens-1M is 0.169 with one scale (10), 0.176 with two (2, 12), 0.180 with these and no more with
four."""
SUCCESSOR_RIDGE = 800.0
SUCCESSOR_WINDOW = 50
"""Plays that are looked back on, as in serving."""
COMPANION_RIDGE = 1_000.0
"""Of a few tried on the validation windows: companions alone on 30Music 0.035, 0.038 and 0.040 in
NDCG@20 with 100, 300 and 1,000; successors there 0.026 with 800 and 0.032 with 10,000."""
COMPANION_DROPOUT = 0.0
"""Share of a user's items that companions have to do without. Alone, on the three weeks before the
last of 30Music, their NDCG@20 was 0.041 with none and a ridge of 1,000, and 0.044 with 0.95."""
THREADS = 2
"""Of the solver. It is the same everywhere: the order of sums depends on it."""
LEAST_FADE = 1e-5

Matrix = NDArray[np.float32]


def successors(
    events: Events, n_items: int, *, order: str, most: int, ridge: float = SUCCESSOR_RIDGE
) -> Successors:
    """Return what a play of each of the `most` played items says of the next one.

    W minimises the sum over plays t of |y_t - sum over scales s of x_ts W_s|^2 + sum over s of
    ridge |W_s|^2, where x_ts[i] is the sum of exp(-(t - 1 - a) / s) over the user's plays a of i
    before t, and y_t marks the item of t. A log without order has no next play, and no weights.

    Takes 4 (scales * items)^2 bytes twice, and time with the cube of it.
    """
    part = Participants.most_played(events if order != "none" else _none(events), n_items, most)
    size, scales = len(part.rows), np.array(SUCCESSOR_SCALES)
    before = np.zeros((size * len(scales), size * len(scales)), dtype=np.float32)
    after = np.zeros((size, size * len(scales)), dtype=np.float32)
    _accumulate(events.users, part.places[events.rows], scales, SUCCESSOR_WINDOW, before, after)
    before[np.diag_indices(len(before))] += ridge
    weights = _solved(before, after).reshape(size, size, len(scales))
    return rounded(Successors, weights.transpose(2, 1, 0), part, scales)


def companions(
    events: Events,
    n_items: int,
    *,
    most: int,
    ridge: float = COMPANION_RIDGE,
    dropout: float = COMPANION_DROPOUT,
) -> Companions:
    """Return what having each of the `most` played items says of having another.

    With P = (X'X + D)^-1 over the users' items X, item i weighs -P[i, j] / P[j, j] for j. D is
    diagonal: ridge + dropout / (1 - dropout) * (users who have the item).
    """
    part = Participants.most_played(events, n_items, most)
    together = _together(events, part)
    together[np.diag_indices(len(part.rows))] *= 1 + dropout / (1 - dropout)
    together[np.diag_indices(len(part.rows))] += ridge
    inverse = _inverted(together)
    weights = inverse / -np.diag(inverse)
    return rounded(Companions, weights[None], part, np.array([np.inf]))


def _none(events: Events) -> Events:
    return events.where(np.zeros(len(events), dtype=np.bool_))


@njit(cache=True, error_model="numpy")
def _accumulate(users: Any, places: Any, scales: Any, window: int, before: Any, after: Any) -> None:
    """Add the sums of x_t x_t' to `before`'s upper half, and those of y_t x_t' to `after`.

    What plays say at each scale stands side by side: item i at scale s is i * scales + s. A pair
    of plays a <= b of one user stands in every x_t with t > b: a geometric series. Plays whose
    place is -1 are passed over, and still count as time.
    """
    n_scales, end = len(scales), len(users)
    fades = np.exp(-np.arange(window + 1) / scales.reshape(-1, 1))
    ratios = np.exp(-1.0 / scales.reshape(-1, 1) - 1.0 / scales)
    series = np.empty((n_scales, n_scales))
    for b in range(len(users) - 1, -1, -1):
        if b + 1 < len(users) and users[b] != users[b + 1]:
            end = b + 1
        if places[b] < 0:
            continue
        for one in range(n_scales):
            for other in range(n_scales):
                ratio = ratios[one, other]
                series[one, other] = (1.0 - ratio ** (end - 1 - b)) / (1.0 - ratio)
        at = places[b] * n_scales
        for one in range(n_scales):
            for other in range(one, n_scales):
                before[at + one, at + other] += series[one, other]
        for back in range(1, window + 1):
            a = b - back
            if a < 0 or users[a] != users[b]:
                break
            if places[a] >= 0:
                _add_pair(before, places[a], places[b], fades[:, back], series)
                for scale in range(n_scales):
                    after[places[b], places[a] * n_scales + scale] += fades[scale, back - 1]


@njit(cache=True, error_model="numpy")
def _add_pair(before: Any, early: Any, late: Any, fades: Any, series: Any) -> None:
    """Add what an earlier play, which has faded, and a later one have in common."""
    n_scales = len(fades)
    for one in range(n_scales):
        if fades[one] < LEAST_FADE:
            continue
        for other in range(n_scales):
            row, column = early * n_scales + one, late * n_scales + other
            shared = fades[one] * series[one, other]
            before[min(row, column), max(row, column)] += shared
            if row == column:  # two plays of one item: each is the other's
                before[row, row] += shared


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


def _solved(upper: Matrix, right: Matrix) -> Matrix:
    """Return the rows x of A x = y for the rows y of `right`; both arguments are overwritten.

    A is symmetric and positive definite; of `upper` only the upper half is read.
    """
    if not len(upper):
        return right
    with threadpool_limits(THREADS, "blas"):
        # LAPACK wants columns end to end: what it takes for the lower half is our upper one.
        _, solution, fault = lapack.sposv(
            upper.T, right.T, lower=True, overwrite_a=True, overwrite_b=True
        )
    if fault:
        raise np.linalg.LinAlgError(f"the regression's matrix is not positive definite ({fault})")
    return np.asarray(solution.T)


def _inverted(matrix: Matrix) -> Matrix:
    """Return the inverse of a symmetric positive definite matrix."""
    if not len(matrix):
        return matrix
    with threadpool_limits(THREADS, "blas"):
        upper, fault = lapack.spotrf(matrix)
        inverse, late_fault = lapack.spotri(upper)
    if fault or late_fault:
        raise np.linalg.LinAlgError(f"the items' matrix is not positive definite ({fault})")
    return np.asarray(np.triu(inverse) + np.triu(inverse, 1).T)
