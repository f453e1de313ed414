"""Pair weights that are drawn, for tests of what reads them."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from signals.bundle import PairWeights

AnyWeights = TypeVar("AnyWeights", bound=PairWeights)


def random_weights(
    kind: type[AnyWeights],
    random: np.random.Generator,
    n_items: int,
    scales: Sequence[float],
    *,
    part: float = 0.6,
) -> AnyWeights:
    """Return weights of either sign between a part of the items; some of them say nothing."""
    rows = np.flatnonzero(random.random(n_items) < part).astype(np.uint32)
    places = np.full(n_items, -1, dtype=np.int32)
    places[rows] = np.arange(len(rows))
    shape = (len(scales), len(rows), len(rows))
    weights = random.integers(-32_767, 32_768, shape).astype(np.int16)
    weights[:, random.random(shape[1:]) < 0.5] = 0
    units = (random.random(shape[:2]) * 1e-5).astype(np.float32)
    units[:, ::9] = 0
    return kind(places, np.array(scales, dtype=np.float32), rows, weights, units)
