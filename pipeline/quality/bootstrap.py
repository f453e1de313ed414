"""Bootstrap over users: how far a mean, or a difference of means, may be chance.

Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979: users
are drawn with replacement, and the percentiles of the resampled means are the interval. A
difference is of the same users in both (paired), so what makes users hard cancels out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
LOW, HIGH = 2.5, 97.5
"""Percentiles of a 95 % interval."""
BLOCK = 32
"""Resamples drawn at a time: what bounds the memory."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % percentile interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference and its 95 % percentile interval."""

    mean: float
    low: float
    high: float
    chance: float
    """Share of the resamples in which it is not above 0."""


def resampled_means(values: Values, *, seed: int, resamples: int = RESAMPLES) -> Values:
    """Return the column means of resampled rows of `values` ([users, k]), [resamples, k].

    Equal seeds draw equal users, whatever the columns. Raises ValueError without a row.
    """
    n_users = len(values)
    if not n_users:
        raise ValueError("a bootstrap needs at least one user")
    random = np.random.default_rng(seed)
    blocks = [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]
    return np.concatenate([_drawn(random, size, n_users) @ values for size in blocks]) / n_users


def _drawn(random: np.random.Generator, size: int, n_users: int) -> Values:
    """Return how often each user is in each of `size` resamples, [size, users]."""
    picked = random.integers(0, n_users, (size, n_users))
    picked += np.arange(size)[:, None] * n_users
    counts = np.bincount(picked.ravel(), minlength=size * n_users)
    return counts.reshape(size, n_users).astype(np.float64)


def intervals(values: Values, *, seed: int, resamples: int = RESAMPLES) -> tuple[Interval, ...]:
    """Return the interval of the mean of each column of `values`, [users, k]."""
    low, high = np.percentile(
        resampled_means(values, seed=seed, resamples=resamples), (LOW, HIGH), axis=0
    )
    columns = zip(values.mean(axis=0), low, high, strict=True)
    return tuple(Interval(float(m), float(lo), float(hi)) for m, lo, hi in columns)


def interval(values: Values, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Return the interval of the mean of `values`, [users]."""
    return intervals(values[:, None], seed=seed, resamples=resamples)[0]


def paired_difference(
    one: Values, other: Values, *, seed: int, resamples: int = RESAMPLES
) -> Difference:
    """Return the mean of `one` - `other`, both [users] of the same users in the same order."""
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} users cannot be paired")
    apart = one - other
    means = resampled_means(apart[:, None], seed=seed, resamples=resamples)[:, 0]
    low, high = np.percentile(means, (LOW, HIGH))
    return Difference(
        float(apart.mean()), float(low), float(high), chance=float((means <= 0).mean())
    )
