"""Where targets are lost, and which source finds what, by hand."""

import numpy as np
import pytest

from pipeline.quality.fates import fates, fates_of, recall_of, source_recalls
from pipeline.quality.observe import Observation
from tests.unit.observations import observation, rows

N_ITEMS = 500


def test_every_target_has_one_fate_the_first_that_fits() -> None:
    ranked = list(range(150))
    one = observation(
        targets=[5, 15, 50, 120, 200, 300, 400, 900],
        ranked=ranked[:100],
        candidates=ranked,
        proposed={"a": [*ranked, 200, 400]},
        forbidden=[400],
    )

    shares = fates_of(one, N_ITEMS)

    assert shares == dict.fromkeys(shares, 1 / 8)
    assert list(shares) == [
        "not in the bundle",
        "filter seen",
        "proposed by no source",
        "cut before ranking",
        "ranked below 100",
        "places 21 to 100",
        "places 11 to 20",
        "places 1 to 10",
    ]


def test_fates_are_means_over_users_and_add_up_to_one() -> None:
    found = fates(
        [observation([1], [1], proposed={"a": [1]}), observation([1, 2], [], proposed={"a": []})],
        N_ITEMS,
    )

    shares = {each.name: each.share for each in found}
    assert shares["places 1 to 10"] == 0.5
    assert shares["proposed by no source"] == 0.5
    assert sum(shares.values()) == pytest.approx(1.0)


def test_unique_recall_counts_what_no_other_source_found() -> None:
    found = source_recalls(
        [
            observation([1, 2, 3, 4], proposed={"a": [1, 2, 9], "b": [2, 3], "c": []}),
            observation([5], proposed={"a": [5], "b": [], "c": [6]}),
        ]
    )

    by_name = {each.source: each for each in found}
    assert [by_name[name].recall for name in "abc"] == [(0.5 + 1) / 2, (0.5 + 0) / 2, 0.0]
    assert [by_name[name].unique_recall for name in "abc"] == [(0.25 + 1) / 2, 0.25 / 2, 0.0]
    assert [by_name[name].answered for name in "abc"] == [2.0, 1.0, 0.5]


def test_unique_recall_is_what_the_union_loses_without_the_source() -> None:
    random = np.random.default_rng(4)
    many = [
        observation(
            random.choice(40, 8, replace=False).tolist(),
            proposed={name: random.choice(40, 10, replace=False).tolist() for name in "abc"},
        )
        for _ in range(50)
    ]

    for each in source_recalls(many):
        whole = _union_recall(many, "abc")
        without = _union_recall(many, "abc".replace(each.source, ""))
        assert each.unique_recall == pytest.approx(whole - without)


def _union_recall(many: list[Observation], names: str) -> float:
    unions = [np.concatenate([each.proposed[name] for name in names]) for each in many]
    return recall_of(unions, [each.targets for each in many])


def test_recall_is_the_mean_over_users() -> None:
    assert recall_of([rows(1, 2), rows()], [rows(1, 3), rows(4)]) == 0.25
