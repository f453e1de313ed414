"""How much a play still counts: weights by age."""

import numpy as np
from numpy.typing import NDArray


def recency_weights(length: int, scale: float) -> NDArray[np.float32]:
    """Return exp(-i / scale) for the i-th newest play, float32 [length].

    Age is counted in plays, not seconds: on MovieLens-1M and 30Music what a listener did since
    says more than how long ago it was. An infinite `scale` weighs all alike, for logs without
    order.
    """
    return np.asarray(np.exp(-np.arange(length, dtype=np.float32) / np.float32(scale)))
