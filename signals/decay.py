"""How much a play still counts: weights by age."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0


def recency_weights(length: int, scale: float) -> NDArray[np.float32]:
    """Return exp(-i / scale) for the i-th newest play, float32 [length].

    Age is counted in plays: what a listener did since. An infinite `scale` weighs all alike, for
    logs without order.
    """
    return np.asarray(np.exp(-np.arange(length, dtype=np.float32) / np.float32(scale)))


def weights_by_age(ages_s: NDArray[np.float32], days: Sequence[float]) -> NDArray[np.float32]:
    """Return exp(-d / days) for plays d days before the newest, float32 [len(days), len(ages_s)].

    The newest play of all counts 1, however long ago it is: a listener who comes back after a month
    is weighed as on the last day, and so is everybody when a log is old. A seed item is played now:
    what was played a month before it has faded by that month.
    """
    before = (ages_s - ages_s.min(initial=np.inf)) / np.float32(DAY_S)
    return np.asarray(np.exp(-before / np.array(days, dtype=np.float32)[:, None]))
