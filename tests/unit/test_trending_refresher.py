"""The trending refresher: what it reads, when, and what it does while the store is down."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from services.candidates.adapters.trending_refresher import (
    INTEREST_S,
    MAX_BACKOFF_S,
    MAX_NEWS_READS,
    MAX_SEGMENTS,
    MAX_UNREAD_BACKOFF_S,
    TrendingRefresher,
    backoff_s,
)
from services.candidates.domain.trending import (
    GLOBAL,
    BucketTop,
    Segment,
    TrendingRowInvalidError,
    TrendingStoreError,
    TrendingStoreUnavailableError,
    bucket_of,
)
from tests.contract.in_memory_trending_store import InMemoryTrendingStore, TrendingMemory

NOW_S = 1_700_000_000.0
BUCKET = bucket_of(NOW_S)
ROCK = Segment(None, "Rock")
DEADLINE_S = 60.0
FOREVER_S = 1e6


class FaultyStore(InMemoryTrendingStore):
    """A store in memory that fails when told to, and knows what was read."""

    def __init__(self) -> None:
        self.memory = TrendingMemory()
        super().__init__(self.memory)
        self.reads: list[Segment] = []
        self.lists = 0
        self.fault: Exception | None = None
        self.damaged: set[Segment] = set()

    def set_top(self, segment: Segment, key: int) -> None:
        self.memory.tops[segment, BUCKET] = BucketTop(
            BUCKET, np.array([key], dtype=np.uint64), np.array([1], dtype=np.uint64), NOW_S
        )

    def segments(self, now_s: float) -> frozenset[Segment]:
        self.lists += 1
        if self.fault is not None:
            raise self.fault
        return super().segments(now_s)

    def read_segment(self, segment: Segment, now_s: float) -> list[BucketTop]:
        self.reads.append(segment)
        if self.fault is not None:
            raise self.fault
        if segment in self.damaged:
            raise TrendingRowInvalidError(segment.key)
        return super().read_segment(segment, now_s)


class Elapsed:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store() -> FaultyStore:
    store = FaultyStore()
    store.set_top(GLOBAL, 1)
    store.set_top(ROCK, 2)
    return store


def make_refresher(
    store: FaultyStore,
    *,
    predecessor: TrendingRefresher | None = None,
    refresh_s: float = FOREVER_S,
    first_backoff_s: float = 0.001,
    elapsed_s: Callable[[], float] = time.monotonic,
) -> TrendingRefresher:
    return TrendingRefresher(
        store,
        lambda: NOW_S,
        refresh_s=refresh_s,
        first_backoff_s=first_backoff_s,
        elapsed_s=elapsed_s,
        predecessor=predecessor,
    )


def eventually(claim: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < ends_s, "did not come true in time"
        time.sleep(0.002)


def keys_of(refresher: TrendingRefresher, segment: Segment) -> list[int] | None:
    top = refresher.snapshot().segments.get(segment)
    return None if top is None else top.keys.tolist()


def test_before_the_first_read_there_is_no_snapshot_and_no_age(store: FaultyStore) -> None:
    refresher = make_refresher(store)

    assert refresher.snapshot().segments == {}
    assert refresher.age_s() is None


def test_the_global_segment_is_always_read(store: FaultyStore) -> None:
    with make_refresher(store) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])

    assert set(refresher.snapshot().segments) == {GLOBAL}


def test_a_wanted_segment_is_read_before_the_next_refresh(store: FaultyStore) -> None:
    with make_refresher(store) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])

        refresher.want([ROCK])

        eventually(lambda: keys_of(refresher, ROCK) == [2])
    assert store.reads == [GLOBAL, ROCK]


def made_up_markets(number: int) -> list[Segment]:
    return [Segment(f"made up {place}") for place in range(number)]


def test_markets_that_nobody_counted_cost_no_read_and_no_place(store: FaultyStore) -> None:
    germany = Segment("DE")
    store.set_top(germany, 3)
    with make_refresher(store) as refresher:
        refresher.want([ROCK])
        eventually(lambda: keys_of(refresher, ROCK) == [2])

        for market in made_up_markets(MAX_SEGMENTS + 44):
            refresher.want([market])
        refresher.want([germany])

        eventually(lambda: keys_of(refresher, germany) == [3])
    assert (store.lists, store.reads) == (1, [GLOBAL, ROCK, germany])
    assert set(refresher.snapshot().segments) == {GLOBAL, ROCK, germany}


def test_markets_made_up_before_the_first_read_are_not_read_either(store: FaultyStore) -> None:
    refresher = make_refresher(store)
    refresher.want([*made_up_markets(MAX_SEGMENTS + 44), ROCK])

    with refresher:
        eventually(lambda: keys_of(refresher, ROCK) == [2])

    assert (store.lists, store.reads) == (1, [GLOBAL, ROCK])


def test_a_segment_that_is_counted_later_is_seen_later(store: FaultyStore) -> None:
    germany = Segment("DE")
    with make_refresher(store, refresh_s=0.001) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])
        refresher.want([germany])

        store.set_top(germany, 4)

        def is_seen() -> bool:
            refresher.want([germany])
            return keys_of(refresher, germany) == [4]

        eventually(is_seen)


def test_however_many_segments_exist_callers_cannot_have_them_read_without_end(
    store: FaultyStore,
) -> None:
    segments = [Segment(f"market-{number}") for number in range(4 * MAX_SEGMENTS)]
    for segment in segments:
        store.set_top(segment, 1)
    with make_refresher(store) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])

        # As many as are held at once, again and again; the last round changes nothing any more.
        for at in range(0, len(segments), MAX_SEGMENTS // 2):
            refresher.want(segments[at : at + MAX_SEGMENTS // 2])
            has_read = len(store.reads) + MAX_SEGMENTS // 2
            eventually(lambda: len(store.reads) >= min(has_read, MAX_NEWS_READS + 1))  # noqa: B023 - called at once
            threading.Event().wait(0.01)  # a pause too short hides a fault, and makes none up

    assert MAX_NEWS_READS < len(store.reads) <= 2 * MAX_NEWS_READS


def test_what_is_rolled_up_later_is_seen_later(store: FaultyStore) -> None:
    with make_refresher(store, refresh_s=0.001) as refresher:
        refresher.want([ROCK])
        eventually(lambda: keys_of(refresher, ROCK) == [2])

        store.set_top(ROCK, 3)

        eventually(lambda: keys_of(refresher, ROCK) == [3])


def test_a_held_snapshot_never_changes(store: FaultyStore) -> None:
    with make_refresher(store, refresh_s=0.001) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])
        before = refresher.snapshot()

        store.set_top(GLOBAL, 9)
        eventually(lambda: keys_of(refresher, GLOBAL) == [9])

    assert before.segments[GLOBAL].keys.tolist() == [1]


def test_while_the_store_is_down_the_last_snapshot_stays_and_ages(store: FaultyStore) -> None:
    elapsed = Elapsed()
    with make_refresher(store, refresh_s=0.0, elapsed_s=elapsed) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])
        store.fault = TrendingStoreUnavailableError("down")
        lists = store.lists
        eventually(lambda: store.lists > lists + 2)

        elapsed.now_s = 100.0

        assert keys_of(refresher, GLOBAL) == [1]
        assert refresher.age_s() == 100.0


def test_it_recovers_when_the_store_does(store: FaultyStore) -> None:
    elapsed = Elapsed()
    store.fault = TrendingStoreUnavailableError("down")
    with make_refresher(store, elapsed_s=elapsed) as refresher:
        eventually(lambda: store.lists >= 2)
        assert refresher.age_s() is None

        elapsed.now_s = 50.0
        store.fault = None

        eventually(lambda: keys_of(refresher, GLOBAL) == [1])
        eventually(lambda: refresher.age_s() == 0.0)


def test_a_store_that_is_down_is_left_alone_whatever_is_wanted(store: FaultyStore) -> None:
    store.fault = TrendingStoreUnavailableError("down")
    with make_refresher(store, first_backoff_s=FOREVER_S) as refresher:
        eventually(lambda: store.lists == 1)

        # That nothing happens can only be waited for; a pause too short hides a fault, and never
        # makes one up.
        for number in range(50):
            refresher.want([Segment(f"market-{number}")])
            threading.Event().wait(0.002)

    assert (store.lists, store.reads) == (1, [])


def test_however_often_it_failed_it_tries_as_often_as_it_would_refresh(store: FaultyStore) -> None:
    with make_refresher(store, refresh_s=0.002) as refresher:
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])
        store.fault = TrendingStoreUnavailableError("down")
        lists = store.lists

        # Pauses that went on doubling would add up to minutes.
        eventually(lambda: store.lists > lists + 100)


def test_pauses_double_up_to_a_limit() -> None:
    after_good_reads = [
        backoff_s(failures, first_s=1.0, refresh_s=30.0, is_unread=False)
        for failures in range(1, 8)
    ]
    unread = [
        backoff_s(failures, first_s=1.0, refresh_s=30.0, is_unread=True) for failures in range(1, 5)
    ]

    assert after_good_reads == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert unread == [1.0, 2.0, 4.0, MAX_UNREAD_BACKOFF_S]


def test_a_rare_refresh_does_not_make_a_failed_one_as_rare() -> None:
    assert backoff_s(99, first_s=1.0, refresh_s=3_600.0, is_unread=False) == MAX_BACKOFF_S


def test_a_successor_answers_from_what_is_held_though_the_store_is_down(store: FaultyStore) -> None:
    elapsed = Elapsed()
    with make_refresher(store, elapsed_s=elapsed) as first:
        first.want([ROCK])
        eventually(lambda: keys_of(first, ROCK) == [2])
        store.fault = TrendingStoreUnavailableError("down")
        elapsed.now_s = 40.0

        with make_refresher(store, elapsed_s=elapsed, predecessor=first) as second:
            eventually(lambda: store.lists >= 3)

            assert (keys_of(second, GLOBAL), keys_of(second, ROCK)) == ([1], [2])
            assert second.age_s() == 40.0


def test_a_successor_reads_all_that_its_predecessor_held(store: FaultyStore) -> None:
    with make_refresher(store) as first:
        first.want([ROCK])
        eventually(lambda: keys_of(first, ROCK) == [2])
        store.set_top(ROCK, 3)

        with make_refresher(store, predecessor=first) as second:
            eventually(lambda: keys_of(second, ROCK) == [3])

    assert keys_of(first, ROCK) == [2]


@pytest.mark.parametrize("fault", [TrendingStoreError("one"), RuntimeError("two")])
def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    store: FaultyStore, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    store.fault = fault
    with make_refresher(store) as refresher:
        eventually(lambda: store.lists >= 4)
        store.fault = None
        eventually(lambda: keys_of(refresher, GLOBAL) == [1])

    begun, ended = caplog.messages
    assert str(fault) in begun
    assert "again" in ended


def test_a_damaged_segment_does_not_stop_the_others(
    store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.set_top(Segment("DE"), 1)
    store.damaged.add(Segment("DE"))
    with make_refresher(store, refresh_s=0.001) as refresher:
        refresher.want([Segment("DE"), ROCK])

        eventually(lambda: keys_of(refresher, ROCK) == [2])
        eventually(lambda: store.reads.count(Segment("DE")) >= 3)

    assert keys_of(refresher, Segment("DE")) == []
    assert len(caplog.messages) == 1


def test_segments_that_nobody_wants_any_more_are_dropped(store: FaultyStore) -> None:
    elapsed = Elapsed()
    with make_refresher(store, refresh_s=0.0, elapsed_s=elapsed) as refresher:
        refresher.want([ROCK])
        eventually(lambda: keys_of(refresher, ROCK) == [2])

        elapsed.now_s = INTEREST_S + 1.0

        eventually(lambda: keys_of(refresher, ROCK) is None)
        assert keys_of(refresher, GLOBAL) == [1]


def test_no_more_segments_are_held_than_the_limit_and_the_latest_win(store: FaultyStore) -> None:
    refresher = make_refresher(store)
    segments = [Segment(f"market-{number}") for number in range(MAX_SEGMENTS + 20)]
    for segment in segments:
        store.set_top(segment, 1)
    refresher.want(segments)

    with refresher:
        eventually(lambda: GLOBAL in refresher.snapshot().segments)

    held = set(refresher.snapshot().segments)
    assert held == {GLOBAL, *segments[-(MAX_SEGMENTS - 1) :]}


def test_a_segment_wanted_again_outlasts_those_wanted_once(store: FaultyStore) -> None:
    refresher = make_refresher(store)
    others = [Segment(f"market-{number}") for number in range(MAX_SEGMENTS - 2)]
    for segment in [*others, Segment("one more")]:
        store.set_top(segment, 1)
    refresher.want([ROCK])
    refresher.want(others)

    refresher.want([ROCK])
    refresher.want([Segment("one more")])

    with refresher:
        eventually(lambda: keys_of(refresher, ROCK) == [2])
    assert len(refresher.snapshot().segments) == MAX_SEGMENTS
    assert keys_of(refresher, Segment("market-0")) is None


def test_closing_ends_the_thread_and_keeps_the_snapshot(store: FaultyStore) -> None:
    refresher = make_refresher(store, refresh_s=0.001)
    refresher.start()
    eventually(lambda: keys_of(refresher, GLOBAL) == [1])

    refresher.close()
    refresher.close()

    reads = len(store.reads)
    refresher.want([ROCK])
    assert keys_of(refresher, GLOBAL) == [1]
    assert len(store.reads) == reads
