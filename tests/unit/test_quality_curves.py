"""Calibration, gain curves, learning curves and feature gains, by hand."""

from pathlib import Path

import pytest

from meshkit.bundles import Bundle
from pipeline.progress import MeasuredStep
from pipeline.quality.curves import (
    calibration,
    feature_gains,
    gain_curve,
    learning_curve,
    steps_taken,
    trees_kept,
)
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.domain.features import feature_names
from tests.unit.observations import observation, rows


def test_calibration_tells_hit_rates_by_score_lowest_first() -> None:
    ranked = list(range(20))
    one = observation([0, 1, 19], ranked, scores=[float(-row) for row in ranked])

    found = calibration([one, observation([1], [1])])

    assert len(found) == 10
    assert [each.candidates for each in found] == [2] * 10
    assert (found[0].score, found[0].hit_rate) == (-18.5, 0.5)
    assert (found[-1].score, found[-1].hit_rate) == (-0.5, 1.0)
    assert {each.hit_rate for each in found[1:-1]} == {0.0}


def test_without_a_model_nothing_is_calibrated() -> None:
    assert calibration([observation([1], [1])]) == ()


def test_the_gain_curve_is_the_share_found_by_place() -> None:
    curve = gain_curve([rows(7, 1, 2), rows()], [rows(1, 2), rows(5)])

    assert len(curve) == 100
    assert curve[:4] == pytest.approx((0.0, 0.25, 0.5, 0.5))
    assert curve[-1] == pytest.approx(0.5)


def test_the_gains_of_features_add_up_to_one(small_bundle: Bundle) -> None:
    text = Path(small_bundle.path / MODEL_FILE).read_text()

    found = feature_gains(text)

    assert {each.feature for each in found} == set(feature_names())
    assert sum(each.share for each in found) == pytest.approx(1.0)
    assert [each.share for each in found] == sorted((e.share for e in found), reverse=True)
    split_on = {
        feature_names()[int(number)]
        for line in text.splitlines()
        if line.startswith("split_feature=")
        for number in line[14:].split()
    }
    assert {each.feature for each in found if each.share > 0} == split_on


def test_a_report_without_a_learning_curve_has_none() -> None:
    assert learning_curve({}) == ()
    assert learning_curve({"learning_curve": None}) == ()
    assert learning_curve({"learning_curve": [0.1, 0.2]}) == (0.1, 0.2)


def test_a_report_of_before_says_nothing_of_trees_and_steps() -> None:
    step = MeasuredStep("reading the log", 0.5, 200.0)

    assert (trees_kept({}), steps_taken({})) == (0, ())
    assert (trees_kept({"trees": 60}), steps_taken({"steps": [step.to_json()]})) == (60, (step,))
