"""The bootstrap, on distributions whose spread is known."""

from dataclasses import astuple

import numpy as np
import pytest

from pipeline.quality.bootstrap import (
    interval,
    intervals,
    paired_difference,
    resampled_means,
)


def test_the_interval_is_as_wide_as_the_normal_one_where_that_is_right() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    standard_error = values.std() / np.sqrt(len(values))

    found = interval(values, seed=3, resamples=4_000)

    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * standard_error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + 1.96 * standard_error, abs=0.02)


def test_the_interval_of_rare_hits_is_the_binomials() -> None:
    hits = np.zeros(100)
    hits[:5] = 1

    means = resampled_means(hits[:, None], seed=1, resamples=8_000)[:, 0] * 100

    # P(X <= 2) of a binomial of 100 and 0.05 is 0.118, P(X = 5) is 0.180.
    assert (means.round() <= 2).mean() == pytest.approx(0.118, abs=0.02)
    assert (means.round() == 5).mean() == pytest.approx(0.180, abs=0.02)


def test_equal_users_leave_no_doubt() -> None:
    found = interval(np.full(7, 0.25), seed=1)

    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)


def test_equal_seeds_draw_equal_users_whatever_the_columns() -> None:
    values = np.random.default_rng(5).random((30, 3))

    together = intervals(values, seed=9)

    alone, other = interval(values[:, 1], seed=9), interval(values[:, 1], seed=10)
    assert astuple(together[1]) == pytest.approx(astuple(alone))
    assert astuple(together[1]) != pytest.approx(astuple(other))


def test_pairing_sees_a_small_gain_that_the_users_own_spread_would_hide() -> None:
    hard = np.random.default_rng(2).random(200)

    found = paired_difference(hard + 0.01, hard, seed=1)

    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert found.chance == 0.0
    assert interval(hard, seed=1).high - interval(hard, seed=1).low > 0.05


def test_chance_is_the_share_of_resamples_without_a_gain() -> None:
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])

    found = paired_difference(one, other, seed=1, resamples=8_000)

    # The differences are 1 and -1: a quarter of the resamples holds the first twice.
    assert found.mean == 0.0
    assert found.chance == pytest.approx(0.75, abs=0.02)


def test_what_cannot_be_resampled_or_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        resampled_means(np.zeros((0, 1)), seed=1)
    with pytest.raises(ValueError, match="2 and 3 users"):
        paired_difference(np.zeros(2), np.zeros(3), seed=1)
