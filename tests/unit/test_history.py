"""What the mesh passes on of a history."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.history import NO_PLAYS, compose_history
from services.gateway.domain.values import History
from signals.bloom import build_filter, contains
from signals.limits import MAX_HISTORY_PLAYS
from tests.unit.gateway_world import CASES, NO_ROWS, item_rules, plays_of, rows_of

KEYS = item_rules(400).keys.keys
NOW_S = 1_000.0


def holds(history: History, rows: list[int]) -> bool:
    return bool(contains(history.seen_filter, KEYS[rows_of(rows)]).all())


def test_plays_come_newest_first_with_their_ages() -> None:
    history = compose_history(plays_of([5, 6, 7], [400, 900, 990]), NO_ROWS, KEYS, NOW_S)

    assert history.rows.tolist() == [7, 6, 5]
    assert history.ages_s.tolist() == [10.0, 100.0, 600.0]


def test_seed_items_are_the_newest_plays_and_aged_0() -> None:
    history = compose_history(plays_of([5], [400]), rows_of([8, 9]), KEYS, NOW_S)

    assert history.rows.tolist() == [9, 8, 5]
    assert history.ages_s.tolist() == [0.0, 0.0, 600.0]


def test_a_play_in_the_future_is_aged_0() -> None:
    history = compose_history(plays_of([5, 6], [999, 1_500]), NO_ROWS, KEYS, NOW_S)

    assert history.ages_s.tolist() == [0.0, 1.0]


def test_plays_without_times_are_aged_0() -> None:
    history = compose_history(plays_of([5, 6]), NO_ROWS, KEYS, NOW_S)

    assert history.ages_s.tolist() == [0.0, 0.0]


def test_the_newest_200_plays_remain_and_the_filter_still_holds_the_others() -> None:
    stored = list(range(300))

    history = compose_history(plays_of(stored), rows_of([350]), KEYS, NOW_S)

    assert MAX_HISTORY_PLAYS == 200
    assert history.rows.tolist() == [350, *range(299, 100, -1)]
    assert len(history.ages_s) == 200
    assert holds(history, [*stored, 350])


def test_no_plays_and_no_seeds_are_an_empty_history_with_an_empty_filter() -> None:
    history = compose_history(NO_PLAYS, NO_ROWS, KEYS, NOW_S)

    assert history.rows.tolist() == history.ages_s.tolist() == []
    assert history.seen_filter == b""


def test_a_stored_filter_goes_on_with_the_seed_items_and_the_plays_added() -> None:
    long_ago = np.array([123456789], dtype=np.uint64)
    plays = replace(plays_of([5, 6]), seen_filter=build_filter(long_ago))

    history = compose_history(plays, rows_of([8]), KEYS, NOW_S)

    assert history.rows.tolist() == [8, 6, 5]
    assert holds(history, [5, 6, 8])
    assert contains(history.seen_filter, long_ago).all()


def test_a_user_of_whom_the_bundle_knows_no_item_keeps_the_filter() -> None:
    long_ago = np.array([123456789], dtype=np.uint64)

    history = compose_history(
        replace(NO_PLAYS, seen_filter=build_filter(long_ago)), NO_ROWS, KEYS, NOW_S
    )

    assert len(history.rows) == 0
    assert contains(history.seen_filter, long_ago).all()


A_PLAY = st.tuples(st.integers(0, 399), st.integers(0, 2_000))


@CASES
@given(st.lists(A_PLAY, max_size=250), st.lists(st.integers(0, 399), max_size=50))
def test_any_history_keeps_the_limits_of_the_contract(
    plays: list[tuple[int, int]], seeds: list[int]
) -> None:
    rows, times_s = [row for row, _ in plays], [time_s for _, time_s in plays]

    history = compose_history(plays_of(rows, times_s), rows_of(seeds), KEYS, NOW_S)

    assert history.rows.tolist() == [*rows, *seeds][::-1][:200]
    assert history.rows.dtype == np.uint32
    assert history.rows.flags.c_contiguous
    assert history.ages_s.dtype == np.float32
    assert len(history.ages_s) == len(history.rows)
    assert (history.ages_s >= 0).all()
    assert holds(history, [*rows, *seeds])
