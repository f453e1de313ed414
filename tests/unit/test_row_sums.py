"""Sums by row against the numpy they replace: the same bits, in the same order."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bundle import Neighbours
from signals.decay import recency_weights
from signals.row_sums import best_first, neighbour_sums, sums_by_row
from signals.top import best_first as best_places

CASES = settings(max_examples=60, deadline=None)  # the first example compiles
SEEDS = st.integers(0, 2**32 - 1)
N_ITEMS = 40

Sums = tuple[NDArray[np.uint32], NDArray[np.float32]]


def numpy_sums(rows: NDArray[np.uint32], values: NDArray[np.float64]) -> Sums:
    distinct, places = np.unique(rows, return_inverse=True)
    sums = np.bincount(places, weights=values, minlength=len(distinct)).astype(np.float32)
    order = best_places(distinct, sums, len(distinct))
    return distinct[order].astype(np.uint32), sums[order]


def numpy_neighbour_sums(
    neighbours: Neighbours, recent: NDArray[np.uint32], weights: NDArray[np.float32]
) -> Sums:
    scored = neighbours.scores[recent] * weights[:, None]
    present = scored != 0
    return positive(
        numpy_sums(neighbours.rows[recent][present], scored[present].astype(np.float64))
    )


def positive(sums: Sums) -> Sums:
    rows, values = sums
    return rows[values > 0], values[values > 0]


def random_lists(random: np.random.Generator, length: int, n_scores: int) -> Neighbours:
    """Lists best first, then padding; few distinct scores make many ties."""
    scores = random.integers(0, n_scores, (N_ITEMS, length)).astype(np.float32)
    scores = -np.sort(-scores / np.float32(3), axis=1)
    rows = np.array([random.permutation(N_ITEMS)[:length] for _ in range(N_ITEMS)])
    return Neighbours(np.where(scores > 0, rows, 0).astype(np.uint32), scores)


def assert_same_bits(found: Sums, expected: Sums) -> None:
    assert [one.dtype.name for one in found] == ["uint32", "float32"]
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tobytes() == expected[1].tobytes()


@CASES
@given(SEEDS, st.integers(0, 60), st.integers(1, 30), st.sampled_from([2, 4, 1000]))
def test_neighbours_sum_as_numpy_sums_them(
    seed: int, plays: int, length: int, n_scores: int
) -> None:
    random = np.random.default_rng(seed)
    neighbours = random_lists(random, length, n_scores)
    recent = random.integers(0, N_ITEMS, plays).astype(np.uint32)
    weights = recency_weights(plays, float(random.choice([0.5, 10.0, math.inf])))

    found = neighbour_sums(neighbours, recent, weights)
    head = neighbour_sums(neighbours, recent, weights, 7)

    rows, scores = numpy_neighbour_sums(neighbours, recent, weights)
    assert_same_bits(found, (rows, scores))
    assert_same_bits(head, (rows[:7], scores[:7]))


@CASES
@given(SEEDS, st.integers(0, 2000), st.sampled_from([1, 50, 2**32]))
def test_values_sum_as_numpy_sums_them(seed: int, length: int, n_items: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(0, n_items, length).astype(np.uint32)
    values = random.choice([random.random(length), np.full(length, 0.1)]) + 1e-9

    found = sums_by_row(rows, values)

    assert_same_bits(found, numpy_sums(rows, values))


SUMS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 0.5, 1e-46, 3e38, math.nan, math.inf])


@CASES
@given(st.lists(SUMS, max_size=60), st.none() | st.integers(1, 70))
def test_sums_above_0_come_best_first_ties_by_row_and_no_others(
    sums: list[float], most: int | None
) -> None:
    rows = np.arange(len(sums), dtype=np.uint32) * np.uint32(7_000_001)

    found = best_first(rows, np.array(sums, dtype=np.float64), most)

    narrowed = np.array(sums, dtype=np.float64).astype(np.float32)
    places = sorted(np.flatnonzero(narrowed > 0), key=lambda at: (-narrowed[at], rows[at]))[:most]
    assert_same_bits(found, (rows[places], narrowed[places]))


def test_arrays_that_only_may_be_read_are_taken() -> None:
    neighbours = random_lists(np.random.default_rng(3), 5, 9)
    recent = np.array([4, 9], dtype=np.uint32)
    expected = neighbour_sums(neighbours, recent, recency_weights(2, 3.0))
    for array in (neighbours.rows, neighbours.scores, recent):
        array.flags.writeable = False

    found = neighbour_sums(neighbours, recent, recency_weights(2, 3.0))

    assert_same_bits(found, expected)


def test_a_play_without_a_list_is_refused() -> None:
    neighbours = random_lists(np.random.default_rng(3), 5, 9)

    with pytest.raises(IndexError, match="no neighbour list"):
        neighbour_sums(neighbours, np.array([0, N_ITEMS], np.uint32), recency_weights(2, 3.0))


def test_a_list_with_a_row_beyond_the_items_is_refused() -> None:
    rows, scores = np.array([[1], [2**32 - 1]], np.uint32), np.array([[1], [1]], np.float32)

    with pytest.raises(IndexError, match="beyond the items"):
        neighbour_sums(
            Neighbours(rows, scores), np.array([0, 1], np.uint32), np.ones(2, np.float32)
        )
