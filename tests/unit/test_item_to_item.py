"""Item-to-item scores against an oracle of dictionaries."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bundle import Neighbours
from signals.item_to_item import link_strengths, neighbour_scores

N_ITEMS = 30
LENGTH = 6
HISTORY = st.lists(st.integers(0, N_ITEMS - 1), max_size=25)
CANDIDATES = st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=N_ITEMS)


def random_lists(seed: int) -> Neighbours:
    """Lists of 0 to `LENGTH` neighbours, padded as the publisher pads them."""
    random = np.random.default_rng(seed)
    rows = np.zeros((N_ITEMS, LENGTH), dtype=np.uint32)
    scores = np.zeros((N_ITEMS, LENGTH), dtype=np.float32)
    for row in range(N_ITEMS):
        length = random.integers(0, LENGTH + 1)
        others = np.delete(np.arange(N_ITEMS), row)
        rows[row, :length] = random.choice(others, size=length, replace=False)
        scores[row, :length] = -np.sort(-random.random(length))
    return Neighbours(rows, scores)


def as_dicts(neighbours: Neighbours) -> list[dict[int, float]]:
    return [
        {int(j): float(score) for j, score in zip(rows, scores, strict=True) if score > 0}
        for rows, scores in zip(neighbours.rows, neighbours.scores, strict=True)
    ]


def rows_of(values: list[int]) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32)


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 20), HISTORY)
def test_scores_are_the_weighted_sums_over_the_lists(seed: int, history: list[int]) -> None:
    neighbours = random_lists(seed)
    weights = np.exp(-np.arange(len(history)) / 5).astype(np.float32)
    expected: defaultdict[int, float] = defaultdict(float)
    for play, weight in zip(history, weights.tolist(), strict=True):
        for row, score in as_dicts(neighbours)[play].items():
            expected[row] += weight * score

    rows, scores = neighbour_scores(neighbours, rows_of(history), weights)

    assert rows.dtype == np.uint32
    assert scores.dtype == np.float32
    assert sorted(rows.tolist()) == sorted(expected)
    np.testing.assert_allclose(scores, [expected[row] for row in rows.tolist()], rtol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 20), HISTORY, CANDIDATES)
def test_links_are_the_entries_of_the_lists(
    seed: int, history: list[int], candidates: list[int]
) -> None:
    neighbours = random_lists(seed)
    lists = as_dicts(neighbours)

    strengths = link_strengths(neighbours, rows_of(history), rows_of(candidates))

    assert strengths.dtype == np.float32
    assert strengths.shape == (len(history), len(candidates))
    expected = [[lists[play].get(row, 0.0) for row in candidates] for play in history]
    assert strengths.tolist() == (expected if history else [])


def test_padding_scores_nothing() -> None:
    neighbours = Neighbours(
        rows=np.array([[1, 0], [2, 0], [1, 0]], dtype=np.uint32),
        scores=np.array([[0.5, 0], [0.25, 0], [0.75, 0]], dtype=np.float32),
    )

    rows, _ = neighbour_scores(neighbours, rows_of([1, 2]), np.ones(2, dtype=np.float32))
    strengths = link_strengths(neighbours, rows_of([1, 2]), rows_of([0, 1, 2]))

    assert rows.tolist() == [1, 2]
    assert strengths.tolist() == [[0, 0, 0.25], [0, 0.75, 0]]


def test_a_repeated_play_counts_each_time() -> None:
    neighbours = random_lists(seed=1)
    weights = np.array([1.0, 0.5], dtype=np.float32)
    once = neighbour_scores(neighbours, rows_of([3]), weights[:1])
    twice = neighbour_scores(neighbours, rows_of([3, 3]), weights)

    assert len(once[0]) > 0
    np.testing.assert_array_equal(once[0], twice[0])
    np.testing.assert_allclose(twice[1], once[1] * 1.5, rtol=1e-6)


@pytest.mark.parametrize("history", [[], [3, 3, 8]])
def test_no_candidates_have_no_links(history: list[int]) -> None:
    strengths = link_strengths(random_lists(seed=1), rows_of(history), rows_of([]))

    assert strengths.shape == (len(history), 0)


def test_links_of_a_play_beyond_the_lists_are_refused() -> None:
    with pytest.raises(IndexError, match="no neighbour list"):
        link_strengths(random_lists(seed=1), rows_of([2, N_ITEMS]), rows_of([1]))
