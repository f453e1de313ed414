"""List quality, by hand."""

import math

import numpy as np
import pytest

from pipeline.metrics import METRICS, ListQuality, list_quality


def quality(rows: list[int], targets: list[int]) -> ListQuality:
    return list_quality(np.array(rows, dtype=np.uint32), np.array(targets, dtype=np.uint32))


def test_ndcg_discounts_by_the_place_and_divides_by_the_best_possible() -> None:
    found = quality([9, 1, 8, 2], [1, 2, 3])

    gained = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found.ndcg_10 == pytest.approx(gained / best)
    assert found.ndcg_20 == found.ndcg_10


def test_a_perfect_list_is_worth_one_also_with_more_targets_than_places() -> None:
    every_row = list(range(30))

    assert quality(every_row, every_row).ndcg_10 == pytest.approx(1.0)
    assert quality(every_row, every_row).ndcg_20 == pytest.approx(1.0)


def test_a_play_beyond_the_depth_does_not_count() -> None:
    rows = list(range(101))

    tenth, eleventh = quality(rows, [9]), quality(rows, [10])
    assert (tenth.hit_10, eleventh.hit_10) == (1.0, 0.0)
    assert tenth.ndcg_10 > 0
    assert eleventh.ndcg_10 == 0
    assert eleventh.ndcg_20 == pytest.approx(1 / math.log2(12))
    assert (quality(rows, [19]).recall_20, quality(rows, [20]).recall_20) == (1.0, 0.0)
    assert (quality(rows, [99]).recall_100, quality(rows, [100]).recall_100) == (1.0, 0.0)


def test_recall_is_the_share_of_targets_that_are_found() -> None:
    found = quality([1, 2, 3], [1, 3, 50, 51])

    assert found.recall_20 == 0.5
    assert found.recall_100 == 0.5


def test_an_empty_list_is_worth_nothing() -> None:
    found = quality([], [1])

    assert [getattr(found, metric) for metric in METRICS] == [0.0] * len(METRICS)
