"""Bloom filter over item keys: everything a user ever had, in two to four bytes an item.

Layout: the filter is its bits, least significant first, a power of two of them, 2048 at least.
Bit positions of a key are (h1 + i * h2) mod bits for i = 0..7, with h1 the key itself, and h2 the
key's upper half made odd after a multiplicative mix (double hashing: Kirsch and Mitzenmacher,
"Less hashing, same performance", 2008). An empty filter holds nothing.

Since the number of bits is a power of two, a position in a filter of half the length is the same
without its highest bit: a filter can be doubled by repeating it (`with_room`).

The gateway builds a filter for every request, so that is compiled by numba at the first call and
kept in its cache (`NUMBA_CACHE_DIR`). It takes microseconds: not worth letting go of the GIL,
which a busy thread would then have to be asked for.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from signals.kernel_arrays import for_kernel

HASHES = 8
"""Probes a key; near the optimum for 16 bits a key (0.69 * 16 = 11) at less cost."""

BITS_PER_KEY = 16
"""At least; rounding up to a power of two doubles it at most. At 16 bits and 8 probes the
false-positive rate is (1 - e^(-8/16))^8 = 5.7e-4."""

MIN_BYTES = 256
"""Smallest filter. Double hashing is worse in few bits, where many keys share both hashes: full
filters of 64, 512 and 1024 bits held back 8.4, 1.6 and 1.2 in 1,000 unseen keys, 2048 bits 0.8."""

MAX_BYTES = 65_536
"""Largest filter that a message may carry: 32,768 keys at the full rate; beyond that the newest
keys go in and older ones may be recommended again."""

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, as in Fibonacci hashing
_MOST_KEYS = MAX_BYTES * 8 // BITS_PER_KEY
_ONE, _BYTE, _BIT, _HALF = np.uint64(1), np.uint64(3), np.uint64(7), np.uint64(32)


def build_filter(keys: NDArray[np.uint64], *, room: int = 1) -> bytes:
    """Return the filter that holds `keys` (uint64 [n], newest first; duplicates are harmless).

    It is long enough for `room` times as many keys at the full rate, `MAX_BYTES` at most.
    """
    distinct = _distinct(for_kernel(keys))
    if not len(distinct):
        return b""
    packed = np.zeros(_bytes_for(len(distinct) * room), dtype=np.uint8)
    _add(packed, distinct)
    return packed.tobytes()


def extended(filter_bytes: bytes, keys: NDArray[np.uint64]) -> bytes:
    """Return a filter of the same length that holds `keys` (uint64 [n]) too.

    It holds back more unseen keys the fuller it gets: `with_room` first where they are many. An
    empty filter becomes one of `keys`. Raises ValueError when `check_filter` does.
    """
    check_filter(filter_bytes)
    if not filter_bytes:
        return build_filter(keys)
    packed = np.frombuffer(filter_bytes, dtype=np.uint8).copy()
    _add(packed, for_kernel(keys))
    return packed.tobytes()


def with_room(filter_bytes: bytes, n_keys: int) -> bytes:
    """Return the filter doubled until it is long enough for `n_keys`, or has `MAX_BYTES`.

    Doubling repeats the bits, which places every key where the longer filter looks for it. What it
    held before is held back falsely as often as before; only keys that follow have more room.
    """
    check_filter(filter_bytes)
    if not filter_bytes:
        return filter_bytes
    return filter_bytes * max(1, _bytes_for(n_keys) // len(filter_bytes))


def contains(filter_bytes: bytes, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return for each of `keys` (uint64 [n]) whether the filter holds it, as bool [n].

    Raises ValueError when `check_filter` does.
    """
    check_filter(filter_bytes)
    if not filter_bytes:
        return np.zeros(len(keys), dtype=np.bool_)
    packed = np.frombuffer(filter_bytes, dtype=np.uint8)
    positions = _positions(keys, len(packed) * 8)
    hits = (packed[positions >> np.uint64(3)] >> (positions & np.uint64(7)).astype(np.uint8)) & 1
    return np.asarray(hits.all(axis=0))


def held_back_share(filter_bytes: bytes) -> float:
    """Return the share of unseen keys that the filter is expected to hold back, by its bits.

    Raises ValueError when `check_filter` does.
    """
    check_filter(filter_bytes)
    if not filter_bytes:
        return 0.0
    bits_set = int.from_bytes(filter_bytes, "little").bit_count()
    return float((bits_set / (8 * len(filter_bytes))) ** HASHES)


def check_filter(filter_bytes: bytes) -> None:
    """Raise ValueError unless `filter_bytes` is empty, or of a length that filters have."""
    size = len(filter_bytes)
    if size > MAX_BYTES:
        raise ValueError(f"has {size} bytes; at most {MAX_BYTES} are allowed")
    if size and (size < MIN_BYTES or size & (size - 1)):
        raise ValueError(
            f"has {size} bytes; a filter has a power of two of them, {MIN_BYTES} at least"
        )


def _bytes_for(n_keys: int) -> int:
    """Return the length of a filter of `n_keys` distinct keys."""
    n_bytes = MIN_BYTES
    while n_bytes * 8 < n_keys * BITS_PER_KEY and n_bytes < MAX_BYTES:
        n_bytes *= 2
    return n_bytes


def _positions(keys: NDArray[np.uint64], n_bits: int) -> NDArray[np.uint64]:
    """Return the bit positions of `keys`, uint64 [HASHES, n]."""
    mixed = keys * _MIX
    step = (mixed >> np.uint64(32)) | np.uint64(1)
    probes = np.arange(HASHES, dtype=np.uint64)[:, None]
    return np.asarray((keys + probes * step) & np.uint64(n_bits - 1), dtype=np.uint64)


@njit(cache=True, error_model="numpy")
def _distinct(keys: Any) -> Any:
    """Return the first `_MOST_KEYS` distinct keys, in their order."""
    size = 16
    while size < 2 * min(len(keys), _MOST_KEYS):
        size *= 2
    last = np.uint64(size - 1)
    slots = np.zeros(size, np.uint32)  # a place among the found + 1
    found, n_found = np.empty(min(len(keys), _MOST_KEYS), np.uint64), 0
    for key in keys:
        at = ((key * _MIX) >> _HALF) & last
        while slots[at] != 0 and found[slots[at] - 1] != key:
            at = (at + _ONE) & last
        if slots[at] == 0:
            if n_found == len(found):
                break
            found[n_found] = key
            n_found += 1
            slots[at] = n_found
    return found[:n_found]


@njit(cache=True, error_model="numpy")
def _add(packed: Any, keys: Any) -> None:
    """Set the bits of `keys` in the filter `packed`, uint8 [a power of two]."""
    last = np.uint64(len(packed) * 8 - 1)
    for key in keys:
        step = ((key * _MIX) >> _HALF) | _ONE
        position = key
        for _ in range(HASHES):
            bit = position & last
            packed[bit >> _BYTE] |= np.uint8(_ONE << (bit & _BIT))
            position += step
