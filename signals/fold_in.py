"""User vectors on the spot: the user half of an ALS step against fixed item vectors."""

import numpy as np
from numpy.typing import NDArray


def fold_in(
    item_vectors: NDArray[np.float32],
    gram: NDArray[np.float64],
    confidence: NDArray[np.float32],
    regularization: float,
) -> NDArray[np.float32]:
    """Return the vector of a user who played `item_vectors`, float32 [d].

    `item_vectors` is [n, d], one row a play; `gram` is Y'Y over the whole catalogue, [d, d];
    `confidence` is c - 1 of each play, [n]. Solves (Y'Y + Y'(C - I)Y + lambda I) x = Y'C p in
    float64, equation 4 of Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback
    datasets" (2008); a repeated play counts again each time. No plays give the zero vector.
    """
    if not len(item_vectors):
        return np.zeros(gram.shape[0], dtype=np.float32)
    played = item_vectors.astype(np.float64)
    weighted = played * confidence[:, None].astype(np.float64)
    left = gram + weighted.T @ played + regularization * np.eye(gram.shape[0])
    right = played.sum(axis=0) + weighted.sum(axis=0)
    return np.linalg.solve(left, right).astype(np.float32)
