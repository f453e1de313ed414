"""Fold-in: the user half of an ALS step."""

import numpy as np
import pytest
from numpy.typing import NDArray

from signals.fold_in import fold_in, fold_in_each


def catalogue(n_items: int, dimension: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n_items, dimension)).astype(np.float32)


def gram_of(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    return wide.T @ wide


def dense_solution(
    vectors: NDArray[np.float32], plays: NDArray[np.intp], extra: NDArray[np.float32], ridge: float
) -> NDArray[np.float64]:
    """Solve (Y'CY + lambda I) x = Y'Cp with C and p over the whole catalogue."""
    wide = vectors.astype(np.float64)
    confidence, preference = np.ones(len(wide)), np.zeros(len(wide))
    for play, more in zip(plays, extra.astype(np.float64), strict=True):
        confidence[play] += more
        preference[play] = 1.0
    left = wide.T @ np.diag(confidence) @ wide + ridge * np.eye(wide.shape[1])
    return np.asarray(np.linalg.solve(left, wide.T @ (confidence * preference)))


@pytest.mark.parametrize("seed", range(5))
def test_it_solves_the_published_equation(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = catalogue(80, 12, seed)
    plays = random.choice(80, size=9, replace=False)
    extra = random.uniform(0.1, 20.0, size=9).astype(np.float32)

    folded = fold_in(vectors[plays], gram_of(vectors), extra, 0.05)

    assert folded.dtype == np.float32
    np.testing.assert_allclose(
        folded, dense_solution(vectors, plays, extra, 0.05), rtol=1e-4, atol=1e-6
    )


def test_no_plays_give_the_zero_vector() -> None:
    vectors = catalogue(20, 6, seed=1)

    folded = fold_in(vectors[:0], gram_of(vectors), np.zeros(0, dtype=np.float32), 0.05)

    assert folded.tolist() == [0.0] * 6


def test_items_without_a_vector_give_the_zero_vector() -> None:
    vectors = catalogue(20, 6, seed=1)
    unknown = np.zeros((3, 6), dtype=np.float32)

    folded = fold_in(unknown, gram_of(vectors), np.ones(3, dtype=np.float32), 0.05)

    assert folded.tolist() == [0.0] * 6


def test_more_plays_than_items_are_solved() -> None:
    vectors = catalogue(5, 8, seed=2)
    plays = np.tile(np.arange(5), 40)

    folded = fold_in(vectors[plays], gram_of(vectors), np.full(200, 10, dtype=np.float32), 0.05)

    assert np.isfinite(folded).all()


def test_what_was_played_scores_near_one() -> None:
    vectors = catalogue(50, 16, seed=3)
    played = vectors[[4, 9]]

    folded = fold_in(played, gram_of(vectors), np.full(2, 1e4, dtype=np.float32), 0.05)

    np.testing.assert_allclose(played @ folded, 1.0, atol=0.02)


def test_several_confidences_are_solved_as_one_each() -> None:
    vectors = catalogue(80, 12, seed=4)
    gram, played = gram_of(vectors), vectors[[3, 9, 9, 40]]
    confidences = np.array([[40, 20, 10, 5], [40, 40, 40, 40], [1, 0, 0, 0]], dtype=np.float32)

    together = fold_in_each(played, gram, confidences, 0.05)

    alone = [fold_in(played, gram, confidence, 0.05) for confidence in confidences]
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-7)


def test_a_matrix_that_is_no_gram_matrix_is_refused() -> None:
    vectors = catalogue(20, 6, seed=5)

    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        fold_in(vectors[:2], -gram_of(vectors), np.ones(2, dtype=np.float32), 0.05)
