"""The scoreboard: who is compared with whom, and what is lost without a part."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluate import MERGED, RANKED
from pipeline.metrics import METRICS
from pipeline.quality.observe import Observation
from pipeline.quality.scoreboard import (
    best_source,
    comparisons,
    losses,
    qualities_of,
    scores,
)
from tests.unit.observations import observation, rows

NDCG_10, HIT_10 = METRICS.index("ndcg_10"), METRICS.index("hit_10")


def users() -> list[Observation]:
    """Of two users the ranked list finds both, `a` the first, merge order and `b` none."""
    found = [observation([1], [1], merged=[2]), observation([3], [3], merged=[4])]
    lists = [{"a": rows(1), "b": rows(9)}, {"a": rows(9), "b": rows(9)}]
    return [
        replace(one, lists={**one.lists, **of_sources})
        for one, of_sources in zip(found, lists, strict=True)
    ]


def test_every_method_is_measured_for_every_user_in_order() -> None:
    many = users()

    found = qualities_of([each.lists for each in many], [each.targets for each in many])

    assert found[RANKED][:, HIT_10].tolist() == [1.0, 1.0]
    assert found["a"][:, HIT_10].tolist() == [1.0, 0.0]
    assert found[MERGED].shape == (2, len(METRICS))
    means = {each.method: each.metrics["hit_10"].mean for each in scores(found, seed=1)}
    assert (means[RANKED], means["a"], means["b"]) == (1.0, 0.5, 0.0)


def test_the_ranked_list_is_compared_with_merge_order_and_the_best_source() -> None:
    many = users()
    found = qualities_of([each.lists for each in many], [each.targets for each in many])

    assert best_source(found, ("a", "b")) == "a"
    assert best_source(found, ()) is None
    gains = {
        (each.against, each.metric): each.gain.mean
        for each in comparisons(found, ("a", "b"), seed=1)
    }
    assert {against for against, _ in gains} == {MERGED, "a"}
    assert (gains[MERGED, "ndcg_10"], gains["a", "ndcg_10"]) == pytest.approx((1.0, 0.5))


def test_a_loss_is_what_the_ranked_list_has_more_than_without_the_part() -> None:
    many = [replace(each, without={"source a": rows(8), "b": each.targets}) for each in users()]
    found = qualities_of([each.lists for each in many], [each.targets for each in many])

    lost = losses(many, found, seed=1)

    assert lost["source a"]["ndcg_10"].mean == pytest.approx(1.0)
    assert lost["b"]["ndcg_10"].mean == 0.0
    assert np.isclose(found[RANKED][:, NDCG_10].mean(), 1.0)
