"""The loop behind `fold_in`: compiled by numba, without the GIL."""

from typing import Any

from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def weigh(played: Any, confidences: Any, wide: Any, weighted: Any, right: Any) -> None:
    """Write `played` in float64, each play at each confidence, and the sums of c times the play.

    `played` is float32 [n, d], `confidences` (c - 1) float32 [s, n]; `wide` is [n, d], `weighted`
    [n, s, d], `right` [s, d], zeros, all float64.
    """
    for play in range(len(played)):
        narrow, vector = played[play], wide[play]
        for place in range(len(vector)):
            vector[place] = narrow[place]
        for system in range(len(confidences)):
            extra = float(confidences[system, play])
            product, total = weighted[play, system], right[system]
            for place in range(len(vector)):
                product[place] = extra * vector[place]
                total[place] += vector[place] + product[place]
