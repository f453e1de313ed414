"""Looks codes up in short lists of them: compiled by numba, without the GIL.

How this works. What is looked for, candidates or the artists of a few plays, is few beside the
catalogue that it is looked for in, so it goes into a hash table that stays in the processor's
nearest cache: open addressing with linear probing and Fibonacci hashing (Knuth, The Art of
Computer Programming 3, section 6.4).

Rows are trusted: one beyond a table reads foreign memory. The loops stand in one file because
numba's cache does not notice a change in another.
"""

from typing import Any

import numpy as np
from numba import njit

SPREAD = 16
"""Slots a code at least, so that most codes which are not there meet an empty slot at once. For 50
lists of 200 and 500 candidates, 2 slots a code took five times as long, 8 a third longer."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
HALF = np.uint64(32)
EMPTY = -1


@njit(nogil=True, cache=True, error_model="numpy")
def fill_strengths(rows: Any, scores: Any, played: Any, candidates: Any, strengths: Any) -> None:
    """Write to `strengths` (float32 [plays, candidates], zeros) what lists say of candidates.

    `rows` and `scores` are those of `Neighbours`; `candidates` holds each row once.
    """
    slots = _table_of(candidates)
    for play in range(len(played)):
        listed, scored, found = rows[played[play]], scores[played[play]], strengths[play]
        for entry in range(len(listed)):
            place = slots[_slot_of(slots, candidates, listed[entry])]
            if place != EMPTY and scored[entry] != 0:
                found[place] = scored[entry]


@njit(nogil=True, cache=True, error_model="numpy")
def sum_by_code(
    codes: Any, no_code: int, played: Any, weights: Any, candidates: Any, sums: Any
) -> Any:
    """Write to `sums` the weight of plays that share a code with each candidate, once for each.

    `codes` is [n, m], the codes of every item, `no_code` where it has fewer; `weights` is [s, p],
    each row parallel to `played`; `sums` is float32 [s, candidates].
    """
    width = codes.shape[1]
    play_codes = np.empty(len(played) * width, codes.dtype)
    for play in range(len(played)):
        for column in range(width):
            play_codes[play * width + column] = codes[played[play], column]
    slots = _table_of(play_codes)
    by_code = np.zeros((len(weights), len(play_codes)))
    for place in range(len(play_codes)):
        if play_codes[place] != no_code:
            first = slots[_slot_of(slots, play_codes, play_codes[place])]
            for scale in range(len(weights)):
                by_code[scale, first] += weights[scale, place // width]
    sums[:] = 0.0
    for candidate in range(len(candidates)):
        for column in range(width):
            code = codes[candidates[candidate], column]
            place = slots[_slot_of(slots, play_codes, code)]
            if place != EMPTY:
                for scale in range(len(weights)):
                    sums[scale, candidate] += by_code[scale, place]


@njit(nogil=True, cache=True, error_model="numpy")
def _table_of(codes: Any) -> Any:
    """Return the first place of every code among `codes` (unsigned, at most 32 bits), hashed."""
    size = 1
    while size < SPREAD * len(codes):
        size *= 2
    slots = np.full(size, EMPTY, np.int32)
    for place in range(len(codes)):
        at = _slot_of(slots, codes, codes[place])
        if slots[at] == EMPTY:
            slots[at] = place
    return slots


@njit(nogil=True, cache=True, error_model="numpy")
def _slot_of(slots: Any, codes: Any, code: Any) -> Any:
    """Return the slot of `code`, or the empty one where it belongs."""
    last = len(slots) - 1
    at = np.int64((np.uint64(code) * GOLDEN) >> HALF) & last
    while slots[at] != EMPTY and codes[slots[at]] != code:
        at = (at + 1) & last
    return at
