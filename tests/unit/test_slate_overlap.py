"""Rank-biased overlap."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.slate_overlap import rank_biased_overlap

RANKINGS = st.lists(st.integers(0, 30), unique=True, max_size=20)
NOT_EMPTY = st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=20)


def extrapolated(one: list[int], other: list[int], p: float, depth: int) -> float:
    """Equation 30 as written, for two rankings of `depth` items."""
    common = [len(set(one[:d]) & set(other[:d])) for d in range(1, depth + 1)]
    summed = sum(x / d * p**d for d, x in enumerate(common, start=1))
    return common[-1] / depth * p**depth + (1 - p) / p * summed


@given(NOT_EMPTY)
def test_a_ranking_is_equal_to_itself(ranking: list[int]) -> None:
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1)


@given(NOT_EMPTY)
def test_rankings_without_a_common_item_do_not_overlap(ranking: list[int]) -> None:
    assert rank_biased_overlap(ranking, [item + 100 for item in ranking]) == 0


@given(RANKINGS, RANKINGS)
def test_overlap_is_symmetric_and_between_0_and_1(one: list[int], other: list[int]) -> None:
    overlap = rank_biased_overlap(one, other)

    assert overlap == pytest.approx(rank_biased_overlap(other, one))
    assert -1e-12 <= overlap <= 1 + 1e-12


@given(NOT_EMPTY, NOT_EMPTY)
def test_rankings_of_one_length_have_the_overlap_of_equation_30(
    one: list[int], other: list[int]
) -> None:
    depth = min(len(one), len(other))
    one, other = one[:depth], other[:depth]

    expected = extrapolated(one, other, 0.9, depth)

    assert rank_biased_overlap(one, other) == pytest.approx(expected)


def test_a_short_ranking_that_begins_a_longer_one_agrees_with_all_of_it() -> None:
    assert rank_biased_overlap([1, 2], [1, 2, 3, 4]) == pytest.approx(1)


def test_a_hand_computed_overlap_of_uneven_rankings() -> None:
    # s = 1, l = 2, common 0 then 1, p = 0.5: sums 1/2 * 1/4 and 0, tail ((1 - 0) / 2 + 0) * 1/4.
    assert rank_biased_overlap([2], [1, 2], 0.5) == pytest.approx(0.125 + 0.125)


def test_a_change_at_the_head_counts_more_than_one_at_the_end() -> None:
    ranking = list(range(20))
    head, end = [99, *ranking[1:]], [*ranking[:-1], 99]

    assert rank_biased_overlap(ranking, head) < rank_biased_overlap(ranking, end) < 1


def test_an_empty_ranking_is_equal_to_an_empty_one_alone() -> None:
    assert rank_biased_overlap([], []) == 1
    assert rank_biased_overlap([], [1]) == 0


def test_shuffling_more_never_looks_more_alike() -> None:
    ranking = list(range(50))
    draw = random.Random(1)  # noqa: S311 - no secret

    def shuffled(depth: int) -> list[int]:
        head = ranking[:depth]
        draw.shuffle(head)
        return head + ranking[depth:]

    means = [
        sum(rank_biased_overlap(ranking, shuffled(depth)) for _ in range(200)) / 200
        for depth in (1, 3, 10, 50)
    ]
    assert means == sorted(means, reverse=True)
