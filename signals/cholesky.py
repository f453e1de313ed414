"""Small symmetric systems, solved by Cholesky's method: compiled by numba, without the GIL."""

import math
from typing import Any

import numpy as np
from numba import njit

BLOCK = 4
"""Pivots whose rows are subtracted from a later one in one pass over it."""
LANES = 16
"""Rows begin and end at multiples of this: the tail of a vectorised loop costs as much as 16."""


@njit(nogil=True, cache=True, error_model="numpy")
def solve_each(shared: Any, own: Any, ridge: Any, right: Any, answers: Any) -> bool:
    """Solve (shared + own[:, s] + ridge I) answers[s] = right[s] for every s, in float64.

    `shared` is [d, d], `own` [d, s, d], `right` [s, d]; the sum must be symmetric and positive
    definite. Returns False, with `answers` incomplete, where one is not.
    """
    d = len(shared)
    width = (d + LANES - 1) // LANES * LANES
    upper, diagonal = np.zeros((width, width)), np.zeros(d)
    for system in range(len(right)):
        for row in range(d):
            for column in range(d):
                upper[row, column] = shared[row, column] + own[row, system, column]
            upper[row, row] += ridge
        if not _factor(upper, diagonal):
            return False
        _substitute(upper, diagonal, right[system], answers[system])
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _factor(upper: Any, inverse_diagonal: Any) -> bool:
    """Overwrite the upper triangle of A with U of A = U'U, and the inverses of its diagonal.

    Loops run over slices: of `range(first, end)` numba cannot tell that no index is negative,
    and does not vectorise.
    """
    d = len(inverse_diagonal)
    for pivot in range(0, d, BLOCK):
        end = min(pivot + BLOCK, d)
        first = pivot // LANES * LANES
        for row in range(pivot, end):
            target = upper[row, first:]
            for earlier in range(pivot, row):
                factor, source = upper[earlier, row], upper[earlier, first:]
                for column in range(len(target)):
                    target[column] -= factor * source[column]
            if not upper[row, row] > 0.0:
                return False
            inverse = 1.0 / math.sqrt(upper[row, row])
            inverse_diagonal[row] = inverse
            for column in range(len(target)):
                target[column] *= inverse
        for row in range(end, d):
            first = row // LANES * LANES
            target = upper[row, first:]
            one, two = upper[pivot, first:], upper[pivot + 1, first:]
            three, four = upper[pivot + 2, first:], upper[pivot + 3, first:]
            by_one, by_two = upper[pivot, row], upper[pivot + 1, row]
            by_three, by_four = upper[pivot + 2, row], upper[pivot + 3, row]
            for column in range(len(target)):
                target[column] -= (by_one * one[column] + by_two * two[column]) + (
                    by_three * three[column] + by_four * four[column]
                )
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _subtract_block(upper: Any, pivot: Any, row: Any) -> None:
    """Subtract from `row` what the `BLOCK` rows from `pivot` on contribute."""
    first = row // LANES * LANES
    target = upper[row, first:]
    one, two = upper[pivot, first:], upper[pivot + 1, first:]
    three, four = upper[pivot + 2, first:], upper[pivot + 3, first:]
    a, b = upper[pivot, row], upper[pivot + 1, row]
    c, d = upper[pivot + 2, row], upper[pivot + 3, row]
    for column in range(len(target)):
        target[column] -= (a * one[column] + b * two[column]) + (
            c * three[column] + d * four[column]
        )


@njit(nogil=True, cache=True, error_model="numpy")
def _substitute(upper: Any, inverse_diagonal: Any, right: Any, answer: Any) -> None:
    """Write x of U'U x = right to `answer`."""
    rest = right.copy()
    for row in range(len(rest)):
        known = rest[row] * inverse_diagonal[row]
        rest[row] = known
        target, source = rest[row + 1 :], upper[row, row + 1 :]
        for column in range(len(target)):
            target[column] -= known * source[column]
    for row in range(len(rest) - 1, -1, -1):
        known = rest[row] * inverse_diagonal[row]
        answer[row] = known
        for earlier in range(row):
            rest[earlier] -= upper[earlier, row] * known
