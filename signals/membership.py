"""Which items of a list a user neither had nor excluded: compiled by numba, without the GIL.

How this works. Rows to leave out go into a hash table sized by how many they are; then every item
is tested against it and, only if it is not there, against the Bloom filter, whose first free bit
ends the test: two of eight looked at on average for an item that it does not hold. The loop ends
as soon as enough are found.

Compiled at the first call, and kept in numba's cache (`NUMBA_CACHE_DIR`).
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from signals.bloom import HASHES, check_filter

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, as in `signals.bloom`
_ONE, _BYTE, _BIT, _HALF = np.uint64(1), np.uint64(3), np.uint64(7), np.uint64(32)
_NO_FILTER = np.frombuffer(bytes(1), dtype=np.uint8)[:0]
_HASHES = np.uint64(HASHES)


def first_absent(
    rows: NDArray[np.uint32],
    gone_rows: NDArray[np.uint32],
    filter_bytes: bytes,
    item_keys: NDArray[np.uint64],
    limit: int,
) -> NDArray[np.intp]:
    """Return the places of the first `limit` of `rows` that are not gone and not in the filter.

    `gone_rows` is uint32 [g] in any order; `filter_bytes` a filter of `signals.bloom` over the
    keys of rows, `item_keys` uint64 [n_items]. Places rise. Raises IndexError for a row that has
    no key, ValueError for a filter of a wrong length.
    """
    check_filter(filter_bytes)
    packed = np.frombuffer(filter_bytes, dtype=np.uint8) if filter_bytes else _NO_FILTER
    places: NDArray[np.intp] = _first_absent(rows, gone_rows, packed, item_keys, limit)
    return places


@njit(nogil=True, cache=True, error_model="numpy")
def _first_absent(rows: Any, gone_rows: Any, packed: Any, item_keys: Any, limit: Any) -> Any:
    gone = _table(gone_rows)
    places, size = np.empty(min(limit, len(rows)), np.intp), 0
    for place in range(len(rows)):
        if size == len(places):
            break
        row = rows[place]
        if row >= len(item_keys):
            raise IndexError("a row has no key")
        if not _has(gone, row) and not _holds(packed, item_keys[row]):
            places[size] = place
            size += 1
    return places[:size]


@njit(nogil=True, cache=True, error_model="numpy")
def _table(rows: Any) -> Any:
    """Return a hash table of `rows`; a slot holds a row + 1, half of them are free at least."""
    size = 16
    while size < 2 * len(rows):
        size *= 2
    slots = np.zeros(size, np.uint64)
    for row in rows:
        slots[_slot(slots, row)] = np.uint64(row) + _ONE
    return slots


@njit(nogil=True, cache=True, error_model="numpy")
def _slot(slots: Any, row: Any) -> Any:
    """Return where `row` is, or the free slot where it would be."""
    last = np.uint64(len(slots) - 1)
    at = ((np.uint64(row) * _MIX) >> _HALF) & last
    while slots[at] != 0 and slots[at] != np.uint64(row) + _ONE:
        at = (at + _ONE) & last
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _has(slots: Any, row: Any) -> Any:
    return slots[_slot(slots, row)] != 0


@njit(nogil=True, cache=True, error_model="numpy")
def _holds(packed: Any, key: Any) -> Any:
    """Tell what `signals.bloom.contains` tells of one key."""
    if len(packed) == 0:
        return False
    last = np.uint64(len(packed) * 8 - 1)
    step = ((key * _MIX) >> _HALF) | _ONE
    position = key
    for _ in range(_HASHES):
        bit = position & last
        if packed[bit >> _BYTE] >> (bit & _BIT) & _ONE == 0:
            return False
        position += step
    return True
