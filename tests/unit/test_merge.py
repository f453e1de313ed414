"""Merging keeps every candidate once and every source's word."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.merge import merge
from services.gateway.domain.values import Merged, SourceAnswer
from tests.unit.gateway_world import CASES, answer_of, source_answers

N_ITEMS = 60
ANSWERS = source_answers(n_items=N_ITEMS)


def best_ranks(answer: SourceAnswer) -> dict[int, int]:
    """Return the best rank of every row of an answer."""
    ranks: dict[int, int] = {}
    for rank, row in enumerate(answer.rows.tolist(), start=1):
        ranks.setdefault(row, rank)
    return ranks


def fused(answers: tuple[SourceAnswer, ...], row: int) -> float:
    return sum(1.0 / (60 + ranks[row]) for ranks in map(best_ranks, answers) if row in ranks)


@CASES
@given(ANSWERS)
def test_nothing_is_lost_and_nothing_doubled(answers: tuple[SourceAnswer, ...]) -> None:
    merged = merge(answers)

    said = {row for answer in answers for row in answer.rows.tolist()}
    assert sorted(merged.rows.tolist()) == sorted(said)


@CASES
@given(ANSWERS)
def test_every_sources_rank_and_score_is_kept(answers: tuple[SourceAnswer, ...]) -> None:
    merged = merge(answers)

    for answer in answers:
        expected = best_ranks(answer)
        if not expected:
            assert answer.source not in merged.columns
            continue
        column = merged.columns[answer.source]
        kept = dict(zip(merged.rows.tolist(), column.ranks.tolist(), strict=True))
        scores = dict(zip(merged.rows.tolist(), column.scores.tolist(), strict=True))
        assert {row: rank for row, rank in kept.items() if rank} == expected
        assert all(scores[row] == answer.scores[rank - 1] for row, rank in expected.items())
        assert all(scores[row] == 0 for row, rank in kept.items() if not rank)


@CASES
@given(ANSWERS)
def test_the_score_is_reciprocal_rank_fusion_with_60(answers: tuple[SourceAnswer, ...]) -> None:
    merged = merge(answers)

    expected = [fused(answers, row) for row in merged.rows.tolist()]
    np.testing.assert_allclose(merged.scores, np.array(expected, dtype=np.float32), rtol=1e-6)


@CASES
@given(ANSWERS)
def test_order_falls_by_score_and_ties_go_to_the_lower_row(
    answers: tuple[SourceAnswer, ...],
) -> None:
    merged = merge(answers)

    order = list(zip((-merged.scores).tolist(), merged.rows.tolist(), strict=True))
    assert order == sorted(order)


@CASES
@given(ANSWERS)
def test_equal_answers_give_an_equal_list(answers: tuple[SourceAnswer, ...]) -> None:
    first, second = merge(answers), merge(answers)

    assert first.rows.tobytes() == second.rows.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()


def test_an_item_of_two_sources_beats_a_better_ranked_item_of_one() -> None:
    merged = merge([answer_of("ann", [5, 7]), answer_of("similar", [8, 7])])

    assert merged.rows.tolist() == [7, 5, 8]


def test_a_row_doubled_inside_one_answer_keeps_its_best_rank() -> None:
    merged = merge([answer_of("ann", [9, 4, 9], [0.9, 0.8, 0.1])])

    assert merged.rows.tolist() == [9, 4]
    assert merged.columns["ann"].ranks.tolist() == [1, 2]
    assert merged.columns["ann"].scores.tolist() == np.array([0.9, 0.8], dtype=np.float32).tolist()


def test_no_answers_merge_to_nothing() -> None:
    for merged in (merge([]), merge([answer_of("ann", []), answer_of("similar", [])])):
        assert merged.rows.tolist() == merged.scores.tolist() == []
        assert merged.columns == {}


@CASES
@given(ANSWERS, st.integers(0, 2 * N_ITEMS))
def test_the_head_keeps_columns_beside_their_rows(
    answers: tuple[SourceAnswer, ...], limit: int
) -> None:
    merged = merge(answers)

    head = merged.head(limit)

    assert said_of(head) == said_of(merged)[:limit]


def said_of(merged: Merged) -> list[tuple[int, float, tuple[int, ...]]]:
    return [
        (row, score, tuple(int(column.ranks[place]) for column in merged.columns.values()))
        for place, (row, score) in enumerate(
            zip(merged.rows.tolist(), merged.scores.tolist(), strict=True)
        )
    ]
