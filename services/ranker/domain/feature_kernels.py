"""Loops over candidates behind the features: compiled by numba, without the GIL.

Every loop writes the rows of `columns` (float32 [features, candidates]) that its docstring names.
Arrays are trusted: a row beyond a table reads foreign memory. What is only read comes through
`for_kernel`, so that each loop is compiled once, before a server is ready. Loops that call each
other stand in one file, because numba's cache does not notice a change in another.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from signals.decay import DAY_S

LEAST_SHARE = np.float32(1e-9)  # below one play in a log of a billion
LEAST_SQUARE = np.float32(1e-24)
"""Squared length that stands in for a zero vector's."""
ZERO, ONE, NEVER = np.float32(0.0), np.float32(1.0), np.float32(np.inf)
"""Of the columns' type: beside a plain 0 loops run in float64, in half as many lanes."""
HALF_BITS = np.int64(32)
LOW_HALF = np.int64(0xFFFFFFFF)
ALL_BUT_SIGN = np.int32(0x7FFFFFFF)


@njit(nogil=True, cache=True, error_model="numpy")
def summarise_links(strengths: Any, columns: Any) -> None:
    """Write the greatest link from any play, how many link, and the newest that does (or NaN).

    `strengths` is float32 [plays, candidates], newest first.
    """
    greatest, count, newest = columns[0], columns[1], columns[2]
    greatest[:] = 0.0
    count[:] = 0.0
    newest[:] = NEVER
    for play in range(len(strengths)):
        links, ago = strengths[play], np.float32(play)
        for place in range(len(links)):
            link = links[place]
            is_linked = link > ZERO
            greatest[place] = max(greatest[place], link)
            count[place] += ONE if is_linked else ZERO
            newest[place] = min(newest[place], ago if is_linked else NEVER)
    for place in range(len(newest)):
        newest[place] = newest[place] if newest[place] < NEVER else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def summarise_cosines(
    products: Any, play_squares: Any, squares: Any, mean_of: int, columns: Any
) -> None:
    """Write the cosine to the newest play, the mean to the newest `mean_of`, and the greatest.

    `products` are inner products, float32 [plays, candidates]; `play_squares` and `squares` the
    squared lengths of the vectors on both sides. A zero vector's cosines are 0.
    """
    newest, mean, greatest = columns[0], columns[1], columns[2]
    mean[:] = 0.0
    greatest[:] = -np.inf
    averaged = min(mean_of, len(products))
    for play in range(len(products)):
        scale = np.float32(1.0) / math.sqrt(max(play_squares[play], LEAST_SQUARE))
        share = np.float32(1.0 / averaged) if play < averaged else np.float32(0.0)
        product = products[play]
        for place in range(len(product)):
            scaled = product[place] * scale
            mean[place] += share * scaled
            greatest[place] = max(greatest[place], scaled)
    first = np.float32(1.0) / math.sqrt(max(play_squares[0], LEAST_SQUARE))
    for place in range(len(squares)):
        scale = np.float32(1.0) / math.sqrt(max(squares[place], LEAST_SQUARE))
        newest[place] = products[0, place] * first * scale
        mean[place] *= scale
        greatest[place] *= scale


@njit(nogil=True, cache=True, error_model="numpy")
def read_stats(
    rows: Any,
    share: Any,
    recent_share: Any,
    share_rank: Any,
    first_played_s: Any,
    as_of_s: int,
    columns: Any,
) -> None:
    """Write log share, share rank, log recent share, trend, and age in days (NaN if unknown)."""
    for place in range(len(rows)):
        row = rows[place]
        known, recent = max(share[row], LEAST_SHARE), recent_share[row]
        columns[0, place] = math.log(known)
        columns[1, place] = share_rank[row]
        columns[2, place] = math.log(max(recent, LEAST_SHARE))
        columns[3, place] = recent / known if share[row] > 0 else np.nan
        age_days = (as_of_s - first_played_s[row]) / DAY_S
        columns[4, place] = age_days if first_played_s[row] > 0 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def rank_keys(scores: Any) -> Any:
    """Return int64 keys, the lowest for the highest score, then for the first of equal ones.

    `scores` are float32 and not NaN. The lower half of a key is the place.
    """
    falling = np.float32(0.0) - scores  # from zero: -0.0 must not stand apart from 0.0
    bits = falling.view(np.int32)
    keys = np.empty(len(scores), np.int64)
    for place in range(len(scores)):
        ordered = bits[place] if bits[place] >= 0 else bits[place] ^ ALL_BUT_SIGN
        keys[place] = (np.int64(ordered) << HALF_BITS) | place
    return keys


@njit(nogil=True, cache=True, error_model="numpy")
def write_ranks(sorted_keys: Any, column: Any) -> None:
    """Write 1 at the place of the first key to n at that of the last."""
    for rank in range(len(sorted_keys)):
        column[sorted_keys[rank] & LOW_HALF] = rank + 1
