"""Cholesky's method against LAPACK."""

import numpy as np
import pytest
from numpy.typing import NDArray

from signals.cholesky import solve_each


def systems(
    d: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng([d, count])
    factors = random.normal(size=(count + 1, d, d))
    shared, *own = factors @ factors.transpose(0, 2, 1)
    shared.flags.writeable = False
    return shared, np.ascontiguousarray(np.stack(own, axis=1)), random.normal(size=(count, d))


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 70])
@pytest.mark.parametrize("count", [1, 3])
def test_it_solves_every_system(d: int, count: int) -> None:
    shared, own, right = systems(d, count)
    answers = np.zeros((count, d), dtype=np.float32)

    is_solved = solve_each(shared, own, 0.5, right, answers)

    assert is_solved
    for system in range(count):
        left = shared + own[:, system] + 0.5 * np.eye(d)
        expected = np.linalg.solve(left, right[system])
        np.testing.assert_allclose(answers[system], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, -1e6, float("nan")])
def test_a_system_that_is_not_positive_definite_is_told(ridge: float) -> None:
    shared, own, right = systems(6, 2)
    unknown = np.zeros_like(shared)
    unknown.flags.writeable = False

    is_solved = solve_each(unknown, own * 0.0, ridge, right, np.zeros((2, 6), dtype=np.float32))

    assert not is_solved
