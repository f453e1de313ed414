"""What is stored of a user: the newest plays, and a filter that forgets nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.gateway.domain.stored_history import (
    MAX_STORED_PLAYS,
    NO_STORED_HISTORY,
    StoredHistory,
    appended,
    stored_history,
)
from signals.bloom import contains
from tests.unit.gateway_world import CASES

UNSEEN = np.random.default_rng(99).integers(0, 2**64, 100_000, dtype=np.uint64)


def keys_of(count: int, seed: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def history_of(keys: NDArray[np.uint64]) -> StoredHistory:
    return stored_history(keys, np.arange(1, len(keys) + 1))


def test_the_newest_plays_are_stored_and_the_filter_holds_all() -> None:
    keys = keys_of(MAX_STORED_PLAYS + 300, seed=1)

    stored = history_of(keys)

    assert stored.item_keys.tolist() == keys[300:].tolist()
    assert stored.times_s.tolist() == list(range(301, len(keys) + 1))
    assert contains(stored.seen_filter, keys).all()
    assert (stored.keys_held, stored.plays_ever) == (len(keys), len(keys))


def test_nothing_stored_is_an_empty_history_with_an_empty_filter() -> None:
    assert len(NO_STORED_HISTORY.item_keys) == NO_STORED_HISTORY.plays_ever == 0
    assert NO_STORED_HISTORY.seen_filter == b""


LISTS = st.lists(st.integers(0, 700), max_size=700)


@CASES
@given(LISTS, LISTS)
def test_appending_is_storing_all_at_once_but_for_the_filters_length(
    first: list[int], then: list[int]
) -> None:
    before, added = np.array(first, dtype=np.uint64), np.array(then, dtype=np.uint64)
    both = np.concatenate((before, added))

    stored = appended(history_of(before), added, np.arange(1, len(added) + 1) + len(before))

    at_once = history_of(both)
    assert stored.item_keys.tolist() == at_once.item_keys.tolist()
    assert stored.times_s.tolist() == at_once.times_s.tolist()
    assert stored.plays_ever == at_once.plays_ever
    assert contains(stored.seen_filter, both).all()


def test_while_every_play_is_stored_appending_gives_the_same_filter() -> None:
    keys = keys_of(MAX_STORED_PLAYS, seed=2)

    stored = appended(history_of(keys[:10]), keys[10:], np.arange(len(keys) - 10))

    assert stored.seen_filter == history_of(keys).seen_filter
    assert stored.keys_held == len(keys)


@pytest.mark.parametrize("first", [600, 3_000])
def test_four_times_the_items_are_held_at_less_than_one_in_a_thousand(first: int) -> None:
    keys = keys_of(4 * first, seed=3)
    stored = history_of(keys[:first])

    for at in range(first, len(keys), 50):
        stored = appended(stored, keys[at : at + 50], np.zeros(50, dtype=np.int64))

    assert contains(stored.seen_filter, keys).all()
    assert contains(stored.seen_filter, UNSEEN).mean() < 1e-3


def test_playing_the_same_items_for_ever_leaves_the_filter_as_it_is() -> None:
    keys = keys_of(MAX_STORED_PLAYS + 100, seed=4)
    stored = once = history_of(keys)

    for _ in range(100):
        stored = appended(stored, keys[:50], np.zeros(50, dtype=np.int64))

    assert stored.seen_filter == once.seen_filter
    assert stored.keys_held == once.keys_held
