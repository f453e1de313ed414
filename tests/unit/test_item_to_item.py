"""Item-to-item scores against oracles of dictionaries and plain loops."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bundle import LEAST_FADE, Companions, Neighbours, PairWeights, Successors
from signals.item_to_item import (
    neighbour_scores,
    neighbour_strengths,
    pair_scores,
    pair_strengths,
)

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

    strengths = neighbour_strengths(neighbours, rows_of(history), rows_of(candidates))

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
    strengths = neighbour_strengths(neighbours, rows_of([1, 2]), rows_of([0, 1, 2]))

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
    strengths = neighbour_strengths(random_lists(seed=1), rows_of(history), rows_of([]))

    assert strengths.shape == (len(history), 0)


def test_links_of_a_play_beyond_the_lists_are_refused() -> None:
    with pytest.raises(IndexError, match="no neighbour list"):
        neighbour_strengths(random_lists(seed=1), rows_of([2, N_ITEMS]), rows_of([1]))


SCALES = (0.5, 3.0, math.inf)


def random_regression(seed: int, scales: Sequence[float] = SCALES, part: float = 0.7) -> Successors:
    """Weights of either sign between a part of the items; some say nothing."""
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(random.random(N_ITEMS) < part).astype(np.uint32)
    places = np.full(N_ITEMS, -1, dtype=np.int32)
    places[rows] = np.arange(len(rows))
    weights = random.integers(-40, 41, (len(scales), len(rows), len(rows))).astype(np.int16)
    weights[:, np.arange(len(rows)), np.arange(len(rows))] = 0
    units = random.choice([0, 0.25, 1e-3], (len(scales), len(rows))).astype(np.float32)
    return Successors(places, np.array(scales, dtype=np.float32), rows, weights, units)


def says(regression: PairWeights, scale: int, played: int, row: int) -> float:
    """Return what a play says of an item at one scale, before it fades."""
    of, to = int(regression.places[played]), int(regression.places[row])
    if of < 0 or to < 0:
        return 0.0
    return int(regression.weights[scale, of, to]) * float(regression.units[scale, of])


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 20), HISTORY, st.sampled_from([0.0, 0.7, 1.0]), st.none() | st.integers(1, 9))
def test_pair_scores_are_the_faded_sums_above_0_best_first_ties_by_row(
    seed: int, history: list[int], part: float, most: int | None
) -> None:
    regression = random_regression(seed, part=part)
    fades = np.random.default_rng(seed).random((len(SCALES), len(history)), dtype=np.float32)
    sums = {
        row: math.fsum(
            says(regression, scale, play, row) * float(fades[scale, ago])
            for ago, play in enumerate(history)
            for scale in range(len(SCALES))
        )
        for row in regression.rows.tolist()
    }

    everything, all_scores = pair_scores(regression, rows_of(history), fades)
    rows, scores = pair_scores(regression, rows_of(history), fades, most)

    assert [one.dtype.name for one in (rows, scores)] == ["uint32", "float32"]
    assert rows.tolist() == everything.tolist()[:most]
    assert scores.tolist() == all_scores.tolist()[:most]
    found = dict(zip(everything.tolist(), all_scores.tolist(), strict=True))
    assert len(found) == len(everything)
    for row, total in sums.items():
        assert found.get(row, 0.0) == pytest.approx(max(0.0, total), rel=1e-6, abs=1e-12)
    assert (all_scores > 0).all()
    assert list(found) == sorted(found, key=lambda row: (-found[row], row))


@pytest.mark.parametrize("most", [None, 3])
def test_equal_sums_of_a_regression_go_by_row(most: int | None) -> None:
    regression = random_regression(1, part=1.0)
    regression.weights[:] = 7
    regression.units[:] = 1
    fades = np.ones((len(SCALES), 1), dtype=np.float32)

    rows, scores = pair_scores(regression, rows_of([9]), fades, most)

    assert rows.tolist() == list(range(N_ITEMS))[:most]
    assert set(scores.tolist()) == {21.0}


@settings(deadline=None)
@given(st.integers(0, 20), HISTORY, CANDIDATES, st.sampled_from([0.0, 0.7, 1.0]))
def test_each_play_says_its_weight_faded_by_its_own_age_at_every_scale(
    seed: int, history: list[int], candidates: list[int], part: float
) -> None:
    regression = random_regression(seed, part=part)

    strengths = pair_strengths(regression, rows_of(history), rows_of(candidates))

    expected = np.zeros((len(SCALES), len(history), len(candidates)))
    for number, ago, place in np.ndindex(expected.shape):
        said = says(regression, number, history[ago], candidates[place])
        fade = math.exp(-ago / SCALES[number])
        expected[number, ago, place] = said * fade if fade >= LEAST_FADE else 0
    assert strengths.dtype == np.float32
    np.testing.assert_allclose(strengths, expected, rtol=1e-5, atol=1e-9)


def test_what_plays_say_sums_to_the_score_of_the_source() -> None:
    regression, history = random_regression(4, part=1.0), rows_of([3, 9, 3, 21, 8])
    candidates = np.arange(N_ITEMS, dtype=np.uint32)

    strengths = pair_strengths(regression, history, candidates)
    rows, scores = pair_scores(regression, history, regression.fades(len(history)))

    assert len(rows) > 3
    np.testing.assert_allclose(strengths.sum(axis=(0, 1))[rows], scores, rtol=1e-5)


def test_a_regression_that_never_fades_says_the_same_of_every_age() -> None:
    one_scale = random_regression(2, scales=(math.inf,), part=1.0)
    held = Companions(*(getattr(one_scale, field.name) for field in fields(one_scale)))

    strengths = pair_strengths(held, rows_of([5] * 40), rows_of([1, 2, 7]))

    assert strengths.any()
    assert len(np.unique(strengths[0], axis=0)) == 1


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_a_row_beyond_a_regressions_items_is_refused(part: float) -> None:
    regression, beyond = random_regression(3, part=part), rows_of([2, N_ITEMS])
    fades = np.ones((len(SCALES), 2), dtype=np.float32)

    with pytest.raises(IndexError, match="out of bounds"):
        pair_scores(regression, beyond, fades)
    for plays, candidates in ((beyond, rows_of([1])), (rows_of([1]), beyond)):
        with pytest.raises(IndexError, match="out of bounds"):
            pair_strengths(regression, plays, candidates)
