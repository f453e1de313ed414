"""Recency weights: how much the i-th newest play counts."""

import numpy as np

from signals.decay import DAY_S, recency_weights, weights_by_age


def test_the_newest_play_counts_one_and_the_scale_th_one_e_th() -> None:
    weights = recency_weights(11, 10.0)

    assert weights.dtype == np.float32
    assert weights[0] == 1.0
    np.testing.assert_allclose(weights[10], np.exp(-1.0), rtol=1e-6)
    assert (np.diff(weights) < 0).all()


def test_without_order_all_plays_count_alike() -> None:
    assert recency_weights(5, np.inf).tolist() == [1.0] * 5


def test_no_plays_have_no_weights() -> None:
    assert recency_weights(0, 10.0).shape == (0,)


def test_a_play_as_many_days_before_the_newest_as_the_scale_counts_one_e_th() -> None:
    ages_s = np.array([5, 35, 95], dtype=np.float32) * np.float32(DAY_S)

    weights = weights_by_age(ages_s, (30.0, 90.0))

    assert weights.dtype == np.float32
    expected = np.exp(np.array([[0, -1, -3], [0, -1 / 3, -1]]))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_no_plays_have_no_weights_by_age_either() -> None:
    assert weights_by_age(np.empty(0, dtype=np.float32), (30.0, 90.0)).shape == (2, 0)
