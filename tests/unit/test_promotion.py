"""Whether a bundle may be promoted."""

import numpy as np
import pytest

from pipeline.evaluate import Z_95, half_width
from pipeline.promotion import Quality, decide, quality_of


@pytest.mark.parametrize(
    ("quality", "parent", "is_allowed"),
    [
        (Quality(0.20, 0.01), Quality(0.10, 0.01), True),
        (Quality(0.10, 0.00), Quality(0.10, 0.00), True),
        (Quality(0.090, 0.01), Quality(0.10, 0.01), True),
        (Quality(0.0859, 0.01), Quality(0.10, 0.01), True),  # 0.0141 lower; interval 0.01414
        (Quality(0.0858, 0.01), Quality(0.10, 0.01), False),
        (Quality(0.099, 0.0), Quality(0.10, 0.0), False),
        (Quality(0.10, 0.01), None, True),
        (None, None, True),
        (None, Quality(0.10, 0.01), False),
    ],
)
def test_a_loss_beyond_the_interval_of_the_difference_is_refused(
    quality: Quality | None, parent: Quality | None, is_allowed: bool
) -> None:
    assert decide(quality, parent).is_allowed is is_allowed


def test_a_refusal_says_by_how_much() -> None:
    reason = decide(Quality(0.05, 0.03), Quality(0.2, 0.04)).reason

    assert "NDCG@10 0.0500, its parent's 0.2000: 0.1500 lower" in reason
    assert "±0.0500" in reason


def test_quality_is_that_of_the_slate_as_served() -> None:
    methods = [
        {"method": "popularity", "ndcg_10": 0.5, "ndcg_10_ci95": 0.1},
        {"method": "ranked", "ndcg_10": 0.25, "ndcg_10_ci95": 0.02},
    ]

    assert quality_of({"methods": methods}) == Quality(0.25, 0.02)
    assert quality_of({"methods": [{"method": "ranked", "ndcg_10": 0.25}]}) == Quality(0.25, 0.0)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"methods": []},
        {"methods": [{"method": "ann", "ndcg_10": 0.5}]},
        {"methods": [{"method": "ranked", "ndcg_10": float("nan")}]},
    ],
)
def test_a_report_without_the_slates_figure_has_no_quality(report: dict[str, object]) -> None:
    assert quality_of(report) is None


def test_the_interval_holds_the_mean_in_19_of_20_samples() -> None:
    random = np.random.default_rng(3)
    samples = random.normal(0.1, 0.2, size=(4000, 200))

    holds = [abs(sample.mean() - 0.1) <= half_width(sample.tolist()) for sample in samples]

    assert np.mean(holds) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], 1.0), ([0.3], 1.0), ([0.5, 0.5], 0.0), ([0.0, 1.0], Z_95 * 0.5)],
)
def test_the_interval_of_few_values(values: list[float], expected: float) -> None:
    assert half_width(values) == pytest.approx(expected)
