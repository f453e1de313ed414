"""Sums and look-ups of pair weights: compiled by numba, without the GIL.

`weights` and `units` are those of `PairWeights`, places are among its items, -1 for what takes no
part, and `fades` are float32 [scales, plays]. Places are trusted: one beyond the weights reads
foreign memory. The loops stand in one file because numba's cache does not notice a change in
another.
"""

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def sum_weights(weights: Any, units: Any, played: Any, fades: Any) -> Any:
    """Return what the plays say of every item that takes part, float64 [m]."""
    sums = np.zeros(weights.shape[2])
    for play in range(len(played)):
        if played[play] < 0:
            continue
        for scale in range(len(weights)):
            said = weights[scale, played[play]]
            factor = np.float64(units[scale, played[play]]) * np.float64(fades[scale, play])
            for place in range(len(sums)):
                sums[place] += factor * said[place]
    return sums


@njit(nogil=True, cache=True, error_model="numpy")
def fill_weights(
    weights: Any, units: Any, played: Any, candidates: Any, fades: Any, strengths: Any
) -> None:
    """Write to `strengths` (float32 [scales, plays, candidates], zeros) what plays say of each."""
    for play in range(len(played)):
        if played[play] < 0:
            continue
        for scale in range(len(weights)):
            said, found = weights[scale, played[play]], strengths[scale, play]
            factor = units[scale, played[play]] * fades[scale, play]
            if factor == 0.0:
                continue
            for place in range(len(candidates)):
                if candidates[place] >= 0:
                    found[place] = factor * np.float32(said[candidates[place]])
