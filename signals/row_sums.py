"""Sums by item, best first: compiled by numba, without the GIL.

How this works. What is summed names few of a catalogue's items, in no order, so sums are kept in a
hash table as large as what comes in, never as the catalogue. A sum runs in float64 in the order in
which values come and is then narrowed to float32, so equal input gives equal bits. A sum above 0
and its item become one number, the sum's bits above those of the item's complement: bits of
positive floats rise as the floats do, so that one sort of integers gives the best first, ties by
row. Sums that are not above 0 speak for nothing and are left out.

Compiled at the first call, and kept in numba's cache (`NUMBA_CACHE_DIR`). The loops stand in one
file because that cache does not notice a change in another.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from signals.bundle import Neighbours

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_ALL = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def neighbour_sums(
    neighbours: Neighbours,
    recent_rows: NDArray[np.uint32],
    weights: NDArray[np.float32],
    most: int | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Sum weights[i] * neighbours(i, j) over the plays i; return rows j and sums, best first.

    Of sums above 0 the best `most` are returned; None: all. `recent_rows` and `weights` are
    parallel. Raises IndexError for a play without a list and for a list with a row beyond them:
    unchecked, either would touch foreign memory.
    """
    # A copy of a few bytes, so that the loop is compiled for one type: callers' may be read-only.
    recent = np.array(recent_rows, dtype=np.uint32)
    packed = _sum_lists(neighbours.rows, neighbours.scores, recent, weights)
    return _unpacked(packed, most)


def best_first(
    rows: NDArray[np.uint32], sums: NDArray[np.float64], most: int | None = None
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return `rows` whose `sums` are above 0 and these as float32: the best `most`, or all."""
    return _unpacked(_packed(rows, sums, len(rows)), most)


def sums_by_row(
    rows: NDArray[np.uint32], values: NDArray[np.float64]
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the distinct `rows`, each with the sum of its `values` (positive), best first."""
    return _unpacked(_sum_values(rows, values), None)


def _unpacked(
    packed: NDArray[np.uint64], most: int | None
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    if most is not None and most < len(packed):
        packed.partition(len(packed) - most)  # a tenth of what sorting all takes
        packed = packed[-most:]
    packed.sort()
    best_first = packed[::-1]
    rows = (~best_first).astype(np.uint32)
    return rows, (best_first >> _HALF).astype(np.uint32).view(np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_lists(rows: Any, scores: Any, recent_rows: Any, weights: Any) -> Any:
    """Return a packed sum for every neighbour; `rows` and `scores` are the lists of all items."""
    n_items = len(rows)
    for row in recent_rows:
        if row >= n_items:
            raise IndexError("a play has no neighbour list")
    most = min(len(recent_rows) * rows.shape[1], n_items)
    slots, shift = _table(most)
    found, sums, size = np.empty(most, np.uint32), np.empty(most), 0
    for at in range(len(recent_rows)):
        one, weight = recent_rows[at], weights[at]
        for place in range(rows.shape[1]):
            score = scores[one, place] * weight
            if score == 0.0:
                break  # then comes padding
            if rows[one, place] >= n_items:
                raise IndexError("a neighbour list holds a row beyond the items")
            size = _add(slots, shift, found, sums, size, rows[one, place], score)
    return _packed(found, sums, size)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_values(rows: Any, values: Any) -> Any:
    """Return a packed sum for every one of `rows`."""
    slots, shift = _table(len(rows))
    found, sums, size = np.empty(len(rows), np.uint32), np.empty(len(rows)), 0
    for at in range(len(rows)):
        size = _add(slots, shift, found, sums, size, rows[at], values[at])
    return _packed(found, sums, size)


@njit(nogil=True, cache=True, error_model="numpy")
def _table(most: Any) -> Any:
    """Return empty slots for `most` items, half of them free at least, and the hash's shift."""
    bits = 4
    while 1 << bits < 2 * most:
        bits += 1
    return np.zeros(1 << bits, np.uint32), np.uint64(64 - bits)


@njit(nogil=True, cache=True, error_model="numpy")
def _add(slots: Any, shift: Any, found: Any, sums: Any, size: Any, row: Any, value: Any) -> Any:
    """Add to the sum of `row`; return how many items there are now. A slot is a place + 1."""
    at = (np.uint64(row) * _MIX) >> shift
    last = np.uint64(len(slots) - 1)
    while slots[at] != 0:
        if found[slots[at] - 1] == row:
            sums[slots[at] - 1] += np.float64(value)
            return size
        at = (at + np.uint64(1)) & last
    slots[at] = size + 1
    found[size] = row
    sums[size] = np.float64(value)
    return size + 1


@njit(nogil=True, cache=True, error_model="numpy")
def _packed(found: Any, sums: Any, size: Any) -> Any:
    packed, kept = np.empty(size, np.uint64), 0
    for at in range(size):
        narrowed = np.float32(sums[at])
        if narrowed > np.float32(0.0):
            bits = np.uint64(narrowed.view(np.uint32))
            packed[kept] = bits << _HALF | (_ALL - np.uint64(found[at]))
            kept += 1
    return packed[:kept]
