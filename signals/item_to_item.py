"""Item-to-item scores: what neighbour lists and pair weights say of items after some plays."""

import numpy as np
from numpy.typing import NDArray

from signals.bundle import Neighbours, PairWeights
from signals.code_tables import fill_strengths
from signals.kernel_arrays import for_kernel
from signals.pair_kernels import fill_weights, sum_weights
from signals.row_sums import best_first, neighbour_sums


def neighbour_scores(
    neighbours: Neighbours,
    recent_rows: NDArray[np.uint32],
    weights: NDArray[np.float32],
    most: int | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the best `most` neighbours of the recent plays with summed scores, best first.

    score(j) = sum over recent plays i of weights[i] * neighbours(i, j). `recent_rows` and
    `weights` are parallel, newest first. Returns rows uint32 [m] and scores float32 [m] above 0,
    ties by row, every one where `most` is None; sums run in float64 in a fixed order, so equal
    input gives equal bits. Raises IndexError for a play that is no row of `neighbours`.
    """
    return neighbour_sums(neighbours, recent_rows, weights, most)


def pair_scores(
    pairs: PairWeights,
    recent_rows: NDArray[np.uint32],
    fades: NDArray[np.float32],
    most: int | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the best `most` items by what the recent plays say of them, best first.

    score(j) = sum over scales s and recent plays i of fades[s, i] * weight(s, i, j); `fades` is
    float32 [scales, recent], newest first. Returns as `neighbour_scores`; an item that takes no
    part is not among them. Raises IndexError for a play that is no row.
    """
    played = pairs.places_of(recent_rows)
    sums = sum_weights(
        for_kernel(pairs.weights),
        for_kernel(pairs.units),
        for_kernel(played),
        for_kernel(fades),
    )
    return best_first(pairs.rows, sums, most)


def neighbour_strengths(
    neighbours: Neighbours, recent_rows: NDArray[np.uint32], candidates: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Return neighbours(i, j) for recent plays i and candidates j, float32 [recent, candidates].

    Zero where j is not in i's list. `candidates` holds each row once, in any order. Raises
    IndexError for a play that is no row of `neighbours`.
    """
    if len(recent_rows) and recent_rows.max() >= len(neighbours.rows):
        raise IndexError(
            f"a play of row {recent_rows.max()} has no neighbour list: {len(neighbours.rows)} items"
        )
    strengths = np.zeros((len(recent_rows), len(candidates)), dtype=np.float32)
    fill_strengths(
        for_kernel(neighbours.rows),
        for_kernel(neighbours.scores),
        for_kernel(recent_rows),
        for_kernel(candidates),
        strengths,
    )
    return strengths


def pair_strengths(
    pairs: PairWeights, recent_rows: NDArray[np.uint32], candidates: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Return what each recent play says of each candidate, float32 [scales, recent, candidates].

    A play counts by its own age at every scale, newest first: the sum over scales and plays is the
    regression's prediction. Raises IndexError for a row beyond the items.
    """
    shape = (len(pairs.scales), len(recent_rows), len(candidates))
    strengths = np.zeros(shape, dtype=np.float32)
    fill_weights(
        for_kernel(pairs.weights),
        for_kernel(pairs.units),
        for_kernel(pairs.places_of(recent_rows)),
        for_kernel(pairs.places_of(candidates)),
        for_kernel(pairs.fades(len(recent_rows))),
        strengths,
    )
    return strengths
