"""Rows that a tree may stumble over, and a tree walked step by step."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.forest import Split, Tree

Rows = NDArray[np.float32 | np.float64]

ZERO = float(np.float32(1e-35))
"""LightGBM takes what is not above it for zero."""
SPECIALS = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-35, -1e-35, ZERO, -ZERO, 1.1e-35, 5e-324),
    *(-5e-324, 1e-45, 1e-38, 3.4028235e38, -3.4028235e38, 1e300, -1e300, -0.5, -1.0, 0.5, 1.0),
    *(31.0, 32.0, 33.0, 63.9, 2147483647.0, 2147483648.0, -2147483649.0, 1e19),
)


def rows_of(
    random: np.random.Generator,
    count: int,
    n_features: int,
    thresholds: Sequence[float],
    dtype: type[np.float32 | np.float64],
) -> Rows:
    """Return rows of special values, thresholds, their neighbours and ordinary numbers."""
    at = np.array([*thresholds, 0.0])
    with np.errstate(over="ignore"):
        near = np.concatenate([at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)])
        single = at.astype(np.float32)
        near32 = np.concatenate(
            [single, *(np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf))]
        )
        pool = np.concatenate([near, near32.astype(np.float64), SPECIALS])
        drawn = random.choice(pool, size=(count, n_features))
        usual = random.normal(size=drawn.shape) * 3
        whole = np.round(random.random(size=drawn.shape) * 40)
        kind = random.integers(0, 4, size=drawn.shape)
        return np.choose(kind, [drawn, usual, whole, drawn]).astype(dtype)


def walked(trees: Sequence[Tree], rows: Rows) -> NDArray[np.float64]:
    """Return raw scores as LightGBM's `Tree::Predict` finds them, one row and one split a time."""
    scores = np.zeros(len(rows))
    for place, row in enumerate(rows.astype(np.float64).tolist()):
        for tree in trees:
            scores[place] += tree.leaf_values[_leaf(tree, row)]
    return scores


def _leaf(tree: Tree, row: Sequence[float]) -> int:
    node = 0 if tree.splits else ~0
    while node >= 0:
        split = tree.splits[node]
        node = split.left if _goes_left(split, row[split.feature]) else split.right
    return ~node


def _goes_left(split: Split, value: float) -> bool:
    if split.categories is not None:
        if math.isnan(value) or not -1.0 < value < 2.0**31:
            return False
        word, bit = divmod(int(value), 32)
        return word < len(split.categories) and bool(split.categories[word] >> bit & 1)
    if abs(value) <= ZERO or (math.isnan(value) and split.missing != 2):
        value = 0.0  # of a tiny one: `Booster.predict` reads rows as if they were sparse
    is_missing = (split.missing == 1 and value == 0) or (split.missing == 2 and math.isnan(value))
    return split.is_missing_left if is_missing else value <= split.threshold


def same_bits(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Say whether scores are equal to the last bit; the two zeros are alike."""
    return bool(((one + 0.0).view(np.uint64) == (other + 0.0).view(np.uint64)).all())
