"""The scoreboard: quality of every method with intervals, and whether the ranked list wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import MERGED, RANKED
from pipeline.metrics import METRICS, list_quality
from pipeline.quality.bootstrap import (
    Difference,
    Interval,
    intervals,
    paired_difference,
)
from pipeline.quality.observe import Observation

BEST_BY = "ndcg_10"
"""What names the best source."""

Qualities = Mapping[str, NDArray[np.float64]]
"""By method: float64 [users, METRICS]."""


@dataclass(frozen=True, slots=True)
class MethodScore:
    """One method over all users."""

    method: str
    metrics: Mapping[str, Interval]
    """By name of `METRICS`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ranked list against another method, on the same users."""

    against: str
    metric: str
    gain: Difference


def qualities_of(
    lists: Sequence[Mapping[str, NDArray[np.uint32]]], targets: Sequence[NDArray[np.uint32]]
) -> Qualities:
    """Return the quality of every method for every user, users in order."""
    return {
        method: np.array(
            [
                [getattr(quality, metric) for metric in METRICS]
                for quality in (
                    list_quality(of_user[method], wanted)
                    for of_user, wanted in zip(lists, targets, strict=True)
                )
            ]
        ).reshape(len(lists), len(METRICS))
        for method in (lists[0] if lists else ())
    }


def scores(qualities: Qualities, *, seed: int) -> tuple[MethodScore, ...]:
    """Return every method's means with their intervals."""
    return tuple(
        MethodScore(method, dict(zip(METRICS, intervals(values, seed=seed), strict=True)))
        for method, values in qualities.items()
    )


def best_source(qualities: Qualities, sources: Sequence[str]) -> str | None:
    """Return the source whose own list has the greatest mean `BEST_BY`; None without sources."""
    column = METRICS.index(BEST_BY)
    means = {name: qualities[name][:, column].mean() for name in sources if name in qualities}
    return max(means, key=lambda name: means[name]) if means else None


def comparisons(
    qualities: Qualities, sources: Sequence[str], *, seed: int
) -> tuple[Comparison, ...]:
    """Return the ranked list against merge order and against the best source."""
    best = best_source(qualities, sources)
    others = [MERGED, *([best] if best is not None else [])]
    return tuple(
        Comparison(
            other,
            metric,
            paired_difference(qualities[RANKED][:, place], qualities[other][:, place], seed=seed),
        )
        for other in others
        for place, metric in enumerate(METRICS)
    )


def losses(
    observations: Sequence[Observation], qualities: Qualities, *, seed: int
) -> dict[str, dict[str, Difference]]:
    """Return what the ranked list is worth more than without each thing left out, by metric."""
    without = qualities_of(
        [each.without for each in observations], [each.targets for each in observations]
    )
    return {
        label: {
            metric: paired_difference(qualities[RANKED][:, place], values[:, place], seed=seed)
            for place, metric in enumerate(METRICS)
        }
        for label, values in without.items()
    }
