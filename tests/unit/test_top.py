"""The best of many: a cut sort that orders as a full one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.top import best_first

FEW_SCORES = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 0.5000001, 1.0])
ANY_SCORES = st.floats(width=32, allow_nan=False, allow_infinity=False)


def columns(scored: dict[int, float]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    return (
        np.array(list(scored), dtype=np.uint32),
        np.array(list(scored.values()), dtype=np.float32),
    )


@settings(deadline=None)  # the first example compiles
@given(st.dictionaries(st.integers(0, 2**32 - 1), FEW_SCORES | ANY_SCORES), st.integers(1, 30))
def test_the_best_are_the_head_of_a_full_sort(scored: dict[int, float], limit: int) -> None:
    rows, scores = columns(scored)

    places = best_first(rows, scores, limit)

    full = sorted(range(len(rows)), key=lambda place: (-scores[place], rows[place]))
    assert places.tolist() == full[:limit]


def test_ties_go_to_the_lower_row() -> None:
    rows, scores = columns({9: 1.0, 4: 1.0, 7: 1.0})

    assert rows[best_first(rows, scores, 3)].tolist() == [4, 7, 9]


def test_a_tie_that_straddles_the_limit_goes_to_the_lower_rows() -> None:
    rows, scores = columns({8: 1.0, 50: 0.5, 3: 0.5, 2: 0.5, 1: 0.1})

    assert rows[best_first(rows, scores, 3)].tolist() == [8, 2, 3]


@pytest.mark.parametrize("limit", [5, 6, 1000])
def test_a_limit_beyond_the_length_returns_everything(limit: int) -> None:
    rows, scores = columns({1: 0.1, 2: 0.5, 3: 0.3, 4: 0.2, 5: 0.9})

    assert rows[best_first(rows, scores, limit)].tolist() == [5, 2, 3, 4, 1]


def test_nothing_has_no_best() -> None:
    rows, scores = columns({})

    assert len(best_first(rows, scores, 10)) == 0


def test_the_order_of_the_input_does_not_matter() -> None:
    random = np.random.default_rng(1)
    rows, scores = np.arange(500, dtype=np.uint32), random.integers(0, 20, 500).astype(np.float32)
    shuffled = random.permutation(500)

    straight = rows[best_first(rows, scores, 60)]
    mixed = rows[shuffled][best_first(rows[shuffled], scores[shuffled], 60)]

    assert straight.tolist() == mixed.tolist()
