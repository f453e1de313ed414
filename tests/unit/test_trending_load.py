"""Loading trending from a log directory."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.event_log import read_event_log
from pipeline.log_directory import LogDirectoryError, Order, connect, new_log_directory, write_log
from pipeline.trending_counts import SegmentLimits
from pipeline.trending_load import EmptyWindowError, count_window, load_trending
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    TOP_ITEMS,
    WINDOW_S,
    RollUp,
    RollUpOutcome,
    Segment,
    bucket_of,
    buckets_in_window,
)
from signals.keys import item_key
from tests.contract.in_memory_trending_store import InMemoryTrendingStore, TrendingMemory

NOW_S = 1_700_000_000
BUCKET = bucket_of(NOW_S)
ALL = SegmentLimits(least_listening=1)

Play = tuple[str, str, int | None, str | None]
"""User, item, unix seconds, market."""
MakeLog = Callable[..., Path]


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    def make(
        plays: Sequence[Play],
        *,
        genres: dict[str, list[str] | None] | None = None,
        order: Order = "time",
        name: str = "log",
    ) -> Path:
        out = tmp_path / name
        with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
            _insert(db, plays, genres or {})
            with new_log_directory(out) as directory:
                write_log(db, directory, log_format="events", order=order, rejected={})
        return out

    return make


def _insert(db: Any, plays: Sequence[Play], genres: dict[str, list[str] | None]) -> None:
    for place, (user, item, at_s, market) in enumerate(plays):
        db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, 'play', 1.0, ?)",
            [user, item, at_s, place, market],
        )
    for item, own in genres.items():
        db.execute("INSERT INTO items VALUES (?, ?, '', ?, NULL, [])", [item, item, own])


def play(user: str, item: str, *, ago_s: int = 60, market: str | None = None) -> Play:
    return user, item, NOW_S - ago_s, market


def filled(
    log: Path, limits: SegmentLimits = ALL, now_s: float = NOW_S
) -> dict[tuple[Segment, int], dict[str, int]]:
    return {
        (one.segment, one.bucket): dict(zip(one.item_ids, one.counts, strict=True))
        for one in count_window(read_event_log(log), now_s=now_s, limits=limits).counts
        if one.item_ids
    }


def test_a_listener_counts_once_per_item_and_bucket(make_log: MakeLog) -> None:
    log = make_log(
        [play("u", "a"), play("u", "a", ago_s=61), play("v", "a"), play("u", "a", ago_s=BUCKET_S)]
    )

    assert filled(log) == {(GLOBAL, BUCKET): {"a": 2}, (GLOBAL, BUCKET - 1): {"a": 1}}


def test_markets_and_genres_have_segments_of_their_own(make_log: MakeLog) -> None:
    log = make_log(
        [play("u", "a", market="DE"), play("v", "a", market="SE"), play("w", "b")],
        genres={"a": ["Rock", "Pop", "Rock"], "b": ["Pop"], "c": None},
    )

    counts = {segment: items for (segment, _), items in filled(log).items()}

    assert counts == {
        GLOBAL: {"a": 2, "b": 1},
        Segment("DE"): {"a": 1},
        Segment("SE"): {"a": 1},
        Segment(None, "Rock"): {"a": 2},
        Segment(None, "Pop"): {"a": 2, "b": 1},
        Segment("DE", "Rock"): {"a": 1},
        Segment("DE", "Pop"): {"a": 1},
        Segment("SE", "Rock"): {"a": 1},
        Segment("SE", "Pop"): {"a": 1},
    }


def test_a_user_in_two_markets_counts_once_everywhere(make_log: MakeLog) -> None:
    log = make_log([play("u", "a", market="DE"), play("u", "a", market="SE")])

    assert filled(log)[GLOBAL, BUCKET] == {"a": 1}


def test_events_outside_the_window_do_not_count(make_log: MakeLog) -> None:
    log = make_log(
        [
            play("u", "a", ago_s=0),
            play("u", "b", ago_s=-1),
            play("u", "c", ago_s=WINDOW_S + BUCKET_S),
        ]
    )

    assert filled(log) == {(GLOBAL, BUCKET): {"a": 1}}


@pytest.mark.parametrize("order", ["position", "none"])
def test_a_log_without_times_is_one_bucket(make_log: MakeLog, order: Order) -> None:
    log = make_log([("u", "a", None, None), ("v", "a", None, None)], order=order)

    assert filled(log) == {(GLOBAL, BUCKET): {"a": 2}}


def test_the_largest_segments_are_kept_and_the_global_one_always(make_log: MakeLog) -> None:
    plays = [
        play(f"{market}-{user}", "a", market=market)
        for market, users in (("DE", 3), ("SE", 2), ("FR", 1))
        for user in range(users)
    ]
    log = make_log(plays, genres={"a": ["Rock"]})

    by_number = filled(log, SegmentLimits(segments=2, least_listening=1))
    by_listening = filled(log, SegmentLimits(least_listening=3))

    assert {segment for segment, _ in by_number} == {GLOBAL, Segment(None, "Rock")}
    assert {segment for segment, _ in by_listening} == {
        GLOBAL,
        Segment("DE"),
        Segment("DE", "Rock"),
        Segment(None, "Rock"),
    }


def test_a_bucket_keeps_its_top_items(make_log: MakeLog) -> None:
    items = [f"item-{number:04}" for number in range(TOP_ITEMS + 5)]
    log = make_log([play("u", item) for item in items] + [play("v", items[-1])])

    counts = filled(log)[GLOBAL, BUCKET]

    by_key = sorted(items[:-1], key=item_key)
    assert list(counts) == [items[-1], *by_key[: TOP_ITEMS - 1]]


def test_unusable_ids_are_left_out_and_counted(make_log: MakeLog) -> None:
    log = make_log(
        [play("u", "a"), play("u", "ß" * 129), play("u", "b\nc")],
        genres={"a": ["", "x" * 201, "Rock"]},
    )

    window = count_window(read_event_log(log), now_s=NOW_S, limits=ALL)

    assert (window.events, window.unusable_events) == (3, 2)
    assert window.segments == [GLOBAL, Segment(None, "Rock")]


def test_a_load_can_be_read_back_and_replaced(make_log: MakeLog) -> None:
    log = make_log([play("u", "a"), play("v", "a"), play("u", "b", ago_s=BUCKET_S)])
    store = InMemoryTrendingStore(TrendingMemory())

    for _ in range(2):
        result = load_trending(log, store, now_s=NOW_S)

    tops = {
        top.bucket: dict(zip(top.keys.tolist(), top.counts.tolist(), strict=True))
        for top in store.read_segment(GLOBAL, NOW_S)
        if len(top.keys)
    }
    assert tops == {BUCKET: {item_key("a"): 2}, BUCKET - 1: {item_key("b"): 1}}
    assert result.roll_up == RollUp(RollUpOutcome.DONE, len(buckets_in_window(NOW_S)))


def test_a_later_load_empties_buckets_that_it_finds_empty(make_log: MakeLog) -> None:
    store = InMemoryTrendingStore(TrendingMemory())
    load_trending(make_log([play("u", "a", ago_s=BUCKET_S)]), store, now_s=NOW_S)

    load_trending(make_log([play("u", "b")], name="other"), store, now_s=NOW_S)

    held = {top.bucket: top.keys.tolist() for top in store.read_segment(GLOBAL, NOW_S)}
    assert held[BUCKET - 1] == []
    assert held[BUCKET] == [item_key("b")]


def test_a_later_load_empties_segments_that_it_no_longer_counts(make_log: MakeLog) -> None:
    store = InMemoryTrendingStore(TrendingMemory())
    load_trending(make_log([play("u", "a", market="DE")]), store, now_s=NOW_S, limits=ALL)

    load_trending(make_log([play("u", "b")], name="other"), store, now_s=NOW_S, limits=ALL)

    assert not any(len(top.keys) for top in store.read_segment(Segment("DE"), NOW_S))


def test_a_window_without_events_leaves_the_store_alone(make_log: MakeLog) -> None:
    log = make_log([play("u", "a")])
    store = InMemoryTrendingStore(TrendingMemory())
    load_trending(log, store, now_s=NOW_S)

    with pytest.raises(EmptyWindowError, match="no usable event in the 7 days before"):
        load_trending(log, store, now_s=NOW_S + 2 * WINDOW_S)

    assert [len(top.keys) for top in store.read_segment(GLOBAL, NOW_S)][-1] == 1


def test_a_folder_that_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogDirectoryError, match=str(tmp_path)):
        load_trending(tmp_path, InMemoryTrendingStore(TrendingMemory()), now_s=NOW_S)
