"""Item-to-item scores: what the neighbour lists of recent plays say of other items."""

import numpy as np
from numpy.typing import NDArray

from signals.bundle import ItemLinks
from signals.code_tables import fill_strengths
from signals.kernel_arrays import for_kernel
from signals.row_sums import neighbour_sums


def neighbour_scores(
    neighbours: ItemLinks,
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


def link_strengths(
    neighbours: ItemLinks, recent_rows: NDArray[np.uint32], candidates: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Return neighbours(i, j) for recent plays i and candidates j, float32 [recent, candidates].

    Zero where j is not in i's list. `candidates` holds each row once, in any order. Raises
    IndexError for a play that is no row of `neighbours`.
    """
    lists = neighbours.lists_of(recent_rows)
    strengths = np.zeros((len(recent_rows), len(candidates)), dtype=np.float32)
    fill_strengths(
        for_kernel(neighbours.rows),
        for_kernel(neighbours.scores),
        for_kernel(lists),
        for_kernel(candidates),
        strengths,
    )
    return strengths
