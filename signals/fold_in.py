"""User vectors on the spot: the user half of an ALS step against fixed item vectors."""

import numpy as np
from numpy.typing import NDArray

from signals.cholesky import solve_each
from signals.fold_in_kernel import weigh
from signals.kernel_arrays import for_kernel


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
    Raises LinAlgError where the sum on the left is not positive definite, so never for a gram
    matrix and a positive `regularization`.
    """
    return np.asarray(fold_in_each(item_vectors, gram, confidence[None], regularization)[0])


def fold_in_each(
    item_vectors: NDArray[np.float32],
    gram: NDArray[np.float64],
    confidences: NDArray[np.float32],
    regularization: float,
) -> NDArray[np.float32]:
    """Return what `fold_in` does for each row of `confidences` ([s, n]), float32 [s, d].

    The products of all are one matrix product.
    """
    (plays, dimension), count = item_vectors.shape, len(confidences)
    answers = np.zeros((count, dimension), dtype=np.float32)
    if not plays:
        return answers
    played = np.empty((plays, dimension))
    weighted, right = np.empty((plays, count, dimension)), np.zeros((count, dimension))
    weigh(for_kernel(item_vectors), for_kernel(confidences), played, weighted, right)
    own = (played.T @ weighted.reshape(plays, -1)).reshape(dimension, count, dimension)
    if not solve_each(for_kernel(gram), own, float(regularization), right, answers):
        raise np.linalg.LinAlgError("the gram matrix and its ridge are not positive definite")
    return answers
