"""The loop that scores a `Forest`: compiled by numba, without the GIL, the same for every model.

Arrays are as `Forest` describes them, and trusted: an index beyond an array reads foreign memory.
Compiled at the first call of each element type, and kept in numba's cache (`NUMBA_CACHE_DIR`).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

BLOCK = 256
"""Rows at once, at most. To set up the loop over rows costs a split as much as 64 rows do."""
LANES = 64
"""A block is padded to a multiple of this, so that no rows are left to a scalar loop."""
ZERO = 1.0000000180025095e-35
"""LightGBM's `kZeroThreshold`, a float32, as the float64 that it is. What is not above it is zero
to a split that takes zeros for missing, and to `Booster.predict` before any split: it reads rows as
if they were sparse."""
PAIR = 2
"""Words that one 64-bit word holds."""
EVERYTHING = np.uint32(0xFFFFFFFF)
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2
"""What a split takes for a missing value, as LightGBM numbers it."""
NO_CATEGORY = 2147483648.0
"""From here on a value is no category: LightGBM takes them for int32."""

_lowest_bit: Any = trailing_zeros  # typed for compiled callers only


class ForestArrays(NamedTuple):
    """What the loop walks; `Forest` says what each holds."""

    groups: NDArray[np.int32]
    chunks: NDArray[np.int32]
    split_bounds: NDArray[np.int32]
    thresholds: NDArray[np.float32] | NDArray[np.float64]
    """Of the features' type."""
    words: NDArray[np.int32]
    masks: NDArray[np.uint32]
    category_bounds: NDArray[np.int32]
    category_splits: NDArray[np.int32]
    category_masks: NDArray[np.uint32]
    categories: NDArray[np.uint32]
    word_bounds: NDArray[np.int32]
    leaf_bounds: NDArray[np.int32]
    leaf_values: NDArray[np.float64]


@njit(nogil=True, cache=True, error_model="numpy")
def score_rows(features: Any, forest: Any, scores: Any) -> None:
    """Write the raw score of every row of `features` to `scores` (float64 [c]).

    `features` is [c, f], float32 or float64; `forest` are ForestArrays.
    """
    n_groups, n_chunks = len(forest.groups), len(forest.chunks) - 1
    most_words = np.int64(0)
    for chunk in range(n_chunks):
        most_words = max(
            most_words,
            forest.word_bounds[forest.chunks[chunk + 1]] - forest.word_bounds[forest.chunks[chunk]],
        )
    columns = np.empty((n_groups, BLOCK), features.dtype)
    greatest = np.empty(n_groups, features.dtype)
    possible = np.empty((most_words, BLOCK), np.uint32)
    total = np.empty(BLOCK)
    for first in range(0, len(features), BLOCK):
        rows = features[first : first + BLOCK]
        width = (len(rows) + LANES - 1) // LANES * LANES
        for group in range(n_groups):
            greatest[group] = _read_column(rows, forest.groups[group], columns[group, :width])
        total[:] = 0.0
        for chunk in range(n_chunks):
            tree, end_tree = forest.chunks[chunk], forest.chunks[chunk + 1]
            first_word = forest.word_bounds[tree]
            possible[: forest.word_bounds[end_tree] - first_word] = EVERYTHING
            for group in range(n_groups):
                bound, column = chunk * n_groups + group, columns[group]
                for split in range(forest.split_bounds[bound], forest.split_bounds[bound + 1]):
                    threshold, mask = forest.thresholds[split], forest.masks[split]
                    if threshold >= greatest[group]:
                        break
                    word = possible[forest.words[split] - first_word]
                    for row in range(width):
                        word[row] &= EVERYTHING if column[row] <= threshold else mask
            for split in range(forest.category_bounds[chunk], forest.category_bounds[chunk + 1]):
                feature, word_at, first_set, end_set = forest.category_splits[split]
                for row in range(len(rows)):
                    if not _is_in(forest.categories[first_set:end_set], rows[row, feature]):
                        possible[word_at - first_word, row] &= forest.category_masks[split]
            for place in range(tree, end_tree):
                _add_leaves(
                    possible[
                        forest.word_bounds[place] - first_word : forest.word_bounds[place + 1]
                        - first_word
                    ],
                    forest.leaf_values[forest.leaf_bounds[place] : forest.leaf_bounds[place + 1]],
                    total[:width],
                )
        scores[first : first + BLOCK] = total[: len(rows)]


@njit(nogil=True, cache=True, error_model="numpy")
def _read_column(rows: Any, group: Any, column: Any) -> Any:
    """Fill `column` with what a group's splits compare; return the threshold that ends them.

    A missing value that goes right becomes NaN, which is at most nothing, and one that goes left
    is below everything, so that the loop over splits need not know. No threshold ends a column
    that has NaN.
    """
    feature, missing, is_missing_left = group
    zero, infinity = rows.dtype.type(0.0), rows.dtype.type(np.inf)
    stand_in = -infinity if is_missing_left else rows.dtype.type(np.nan)
    greatest, has_nan = -infinity, False
    for row in range(len(column)):
        value = rows[min(row, len(rows) - 1), feature]
        is_nan = math.isnan(value)
        is_zero = abs(value) <= ZERO or (is_nan and missing != MISSING_NAN)
        value = zero if is_zero else value
        is_missing = is_nan if missing == MISSING_NAN else is_zero
        value = stand_in if is_missing and missing != MISSING_NONE else value
        column[row] = value
        has_nan |= math.isnan(value)
        greatest = max(greatest, value)
    return rows.dtype.type(np.nan) if has_nan else greatest


@njit(nogil=True, cache=True, error_model="numpy")
def _is_in(bit_set: Any, value: Any) -> Any:
    if not -1.0 < value < NO_CATEGORY:  # neither is NaN
        return False
    category = np.int64(value)
    return category >> 5 < len(bit_set) and (bit_set[category >> 5] >> (category & 31)) & 1 == 1


@njit(nogil=True, cache=True, error_model="numpy")
def _add_leaves(words: Any, leaf_values: Any, total: Any) -> None:
    """Add to every row the value of the leaf whose bit is the lowest in the words of one tree."""
    if len(words) == 1:
        for row in range(len(total)):
            total[row] += leaf_values[np.int64(_lowest_bit(words[0, row]))]
    elif len(words) == PAIR:
        for row in range(len(total)):
            both = np.uint64(words[1, row]) << np.uint64(32) | np.uint64(words[0, row])
            total[row] += leaf_values[np.int64(_lowest_bit(both))]
    else:
        for row in range(len(total)):
            at = 0
            while at < len(words) - 1 and words[at, row] == 0:
                at += 1
            total[row] += leaf_values[32 * at + np.int64(_lowest_bit(words[at, row]))]
