"""The filter of what a user had: never forgets, seldom holds back, never grows too long."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bloom import (
    BITS_PER_KEY,
    MAX_BYTES,
    MIN_BYTES,
    build_filter,
    check_filter,
    contains,
    extended,
    held_back_share,
    with_room,
)

MOST_KEYS = MAX_BYTES * 8 // BITS_PER_KEY
KEYS = st.integers(0, 2**64 - 1)
COMPILING = settings(deadline=None)  # the first example compiles


def keys_of(values: list[int]) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


def random_keys(count: int, seed: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


@COMPILING
@given(st.lists(KEYS, max_size=200))
def test_nothing_added_is_ever_missed(values: list[int]) -> None:
    keys = keys_of(values)

    assert contains(build_filter(keys), keys).all()


@COMPILING
@given(st.lists(KEYS, max_size=300))
def test_a_filter_is_as_short_as_its_bits_a_key_allow(values: list[int]) -> None:
    built = build_filter(keys_of(values))

    check_filter(built)
    wanted_bits = BITS_PER_KEY * len(set(values))
    assert wanted_bits <= len(built) * 8 < max(MIN_BYTES * 8 + 1, 2 * wanted_bits)


@COMPILING
@given(st.lists(KEYS, min_size=1, max_size=50))
def test_repeats_change_nothing(values: list[int]) -> None:
    assert build_filter(keys_of(values * 3)) == build_filter(keys_of(values))


def test_fewer_than_one_in_a_thousand_unseen_keys_is_held_back_by_a_full_filter() -> None:
    had, unseen = random_keys(MOST_KEYS, seed=1), random_keys(100_000, seed=2)
    filter_bytes = build_filter(had)

    assert len(filter_bytes) == MAX_BYTES
    assert contains(filter_bytes, unseen).mean() < 1e-3


@pytest.mark.parametrize("count", [1, 4, 16, 64, 128, 1024])
def test_short_histories_hold_back_no_more(count: int) -> None:
    rates = [
        contains(build_filter(random_keys(count, seed)), random_keys(20_000, 1000 + seed)).mean()
        for seed in range(10)
    ]

    assert np.mean(rates) < 1e-3


def test_beyond_the_cap_the_newest_keys_stay() -> None:
    newest_first = random_keys(MOST_KEYS + 20_000, seed=3)
    filter_bytes = build_filter(newest_first)

    assert len(filter_bytes) == MAX_BYTES
    assert contains(filter_bytes, newest_first[:MOST_KEYS]).all()
    assert contains(filter_bytes, newest_first[MOST_KEYS:]).mean() < 1e-3


def test_repeats_take_no_room_from_older_keys() -> None:
    distinct = random_keys(MOST_KEYS, seed=4)
    newest_first = np.concatenate([np.repeat(distinct[:100], 500), distinct])

    assert contains(build_filter(newest_first), distinct).all()


def test_an_empty_filter_holds_nothing() -> None:
    assert build_filter(keys_of([])) == b""
    assert contains(b"", random_keys(10, seed=5)).tolist() == [False] * 10


def test_asking_after_no_keys_answers_nothing() -> None:
    assert contains(build_filter(random_keys(3, seed=6)), keys_of([])).shape == (0,)


@pytest.mark.parametrize(
    "size", [1, 8, MIN_BYTES // 2, MIN_BYTES - 1, MIN_BYTES + 1, 1000, MAX_BYTES - 1]
)
def test_a_filter_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"has {size} bytes; a filter has a power of two"):
        contains(bytes(size), random_keys(1, seed=7))


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 2 * MAX_BYTES])
def test_a_filter_that_is_too_long_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"has {size} bytes; at most {MAX_BYTES} are allowed"):
        check_filter(bytes(size))


@pytest.mark.parametrize("size", [0, MIN_BYTES, 2 * MIN_BYTES, MAX_BYTES])
def test_a_filter_of_a_possible_size_is_taken(size: int) -> None:
    check_filter(bytes(size))


@COMPILING
@given(st.lists(KEYS, max_size=200), st.lists(KEYS, max_size=200))
def test_an_extended_filter_holds_what_it_held_and_what_was_added(
    held: list[int], added: list[int]
) -> None:
    before = build_filter(keys_of(held))

    after = extended(before, keys_of(added))

    check_filter(after)
    assert contains(after, keys_of([*held, *added])).all()
    assert len(after) == len(before) or not held


@COMPILING
@given(st.lists(KEYS, max_size=200), st.integers(0, 2 * MOST_KEYS))
def test_a_doubled_filter_holds_what_it_held(held: list[int], n_keys: int) -> None:
    before = build_filter(keys_of(held))

    after = with_room(before, n_keys)

    check_filter(after)
    assert contains(after, keys_of(held)).all()
    assert len(after) >= len(before)
    assert not held or len(after) * 8 >= min(n_keys, MOST_KEYS) * BITS_PER_KEY


def test_extending_changes_no_other_filter() -> None:
    filter_bytes = build_filter(random_keys(10, seed=8))
    before = bytes(filter_bytes)

    extended(filter_bytes, random_keys(10, seed=9))

    assert filter_bytes == before


@pytest.mark.parametrize("count", [1, 64, 65, 165, 1_000, 5_000, 16_384, 32_700])
def test_a_filter_with_room_takes_the_seeds_of_a_request_at_its_rate(count: int) -> None:
    had, seeds, unseen = (random_keys(n, seed=n) for n in (count, 50, 100_000))

    filter_bytes = extended(build_filter(had, room=2), seeds)

    assert contains(filter_bytes, unseen).mean() < 1e-3


@pytest.mark.parametrize("count", [200, 2_000, 32_768])
def test_the_expected_share_is_what_is_held_back(count: int) -> None:
    filter_bytes = build_filter(random_keys(count, seed=10))

    expected = held_back_share(filter_bytes)

    assert contains(filter_bytes, random_keys(300_000, seed=11)).mean() == pytest.approx(
        expected, rel=0.5
    )
    assert held_back_share(b"") == 0


def test_the_layout_never_changes() -> None:
    """Filters are stored beside users and must be read by later programs."""
    keys = keys_of([1, 2**63, 0x0123456789ABCDEF])

    bits = np.unpackbits(np.frombuffer(build_filter(keys), np.uint8), bitorder="little")
    assert len(bits) == 2048
    assert np.flatnonzero(bits).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        158,
        442,
        599,
        883,
        1008,
        1040,
        1081,
        1154,
        1227,
        1300,
        1324,
        1373,
        1446,
        1519,
        1765,
    ]
