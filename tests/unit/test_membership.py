"""Membership: the first rows that a user neither had nor excluded, against plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bloom import MIN_BYTES, build_filter, contains
from signals.membership import first_absent

N_ITEMS = 3_000
KEYS = np.sort(np.random.default_rng(5).integers(0, 2**64, N_ITEMS, dtype=np.uint64))
NO_ROWS = np.zeros(0, dtype=np.uint32)
ALL_ROWS = np.arange(N_ITEMS, dtype=np.uint32)


def numpy_first_absent(
    rows: NDArray[np.uint32], gone: NDArray[np.uint32], filter_bytes: bytes, limit: int
) -> list[int]:
    absent = ~np.isin(rows, gone) & ~contains(filter_bytes, KEYS[rows])
    places: list[int] = np.flatnonzero(absent)[:limit].tolist()
    return places


@settings(max_examples=60, deadline=None)  # the first example compiles
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 400),
    had=st.sampled_from([0, 1, 60, 200, 1500]),
    gone=st.sampled_from([0, 1, 7, 8, 200, 1200]),
    limit=st.integers(1, 300),
)
def test_the_first_absent_rows_are_those_that_numpy_finds(
    seed: int, size: int, had: int, gone: int, limit: int
) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(0, N_ITEMS, size).astype(np.uint32)
    gone_rows = random.integers(0, N_ITEMS, gone).astype(np.uint32)
    filter_bytes = build_filter(random.choice(KEYS, had))

    places = first_absent(rows, gone_rows, filter_bytes, KEYS, limit)

    assert places.tolist() == numpy_first_absent(rows, gone_rows, filter_bytes, limit)


def test_an_overfull_filter_holds_back_what_numpy_holds_back() -> None:
    full = np.random.default_rng(1).integers(0, 256, MIN_BYTES, dtype=np.uint8) | 0b0110_1011

    places = first_absent(ALL_ROWS, NO_ROWS, full.tobytes(), KEYS, N_ITEMS)

    assert 0 < len(places) < N_ITEMS
    assert places.tolist() == numpy_first_absent(ALL_ROWS, NO_ROWS, full.tobytes(), N_ITEMS)


def test_no_more_rows_are_looked_at_than_the_limit_takes() -> None:
    rows = np.array([1, 2, N_ITEMS], dtype=np.uint32)

    assert first_absent(rows, NO_ROWS, b"", KEYS, 2).tolist() == [0, 1]


def test_a_row_without_a_key_is_refused() -> None:
    rows = np.array([1, N_ITEMS], dtype=np.uint32)

    with pytest.raises(IndexError, match="no key"):
        first_absent(rows, NO_ROWS, b"", KEYS, 2)


@pytest.mark.parametrize("size", [1, MIN_BYTES - 1, MIN_BYTES + 1, 3 * MIN_BYTES])
def test_a_filter_of_a_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        first_absent(ALL_ROWS, NO_ROWS, bytes(size), KEYS, 1)
