"""Trending counts, against a slow oracle and against a store that was filled with them."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.event_log import Events
from pipeline.trending_counts import (
    SegmentLimits,
    bucket_counts,
    count_trends,
    segment_buckets,
    snapshot_of,
)
from pipeline.trending_load import fill_store
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    TOP_ITEMS,
    Segment,
    bucket_of,
    buckets_in_window,
    rank_segment,
)
from signals.bundle import (
    NO_CODE,
    NO_MARKET,
    ItemKeys,
    ItemTexts,
    TrendCounts,
    market_column,
    market_name,
)
from signals.keys import item_keys
from tests.contract.in_memory_trending_store import InMemoryTrendingStore, TrendingMemory
from tests.unit.event_logs import events

NOW_S = 1_700_000_000
NAMES = ("Folk", "Jazz", "Pop", "Rock")
N_ITEMS = 30
ALL = SegmentLimits(segments=10_000, least_listening=1)
DE, FR = market_column("DE"), market_column("FR")

Counts = dict[tuple[Segment, int], dict[int, int]]


def random_plays(n: int = 3_000, *, n_items: int = N_ITEMS) -> Events:
    rng = np.random.default_rng(2)
    return events(
        np.sort(rng.integers(0, 60, n)).tolist(),
        rng.integers(0, n_items, n).tolist(),
        (NOW_S - rng.integers(-BUCKET_S, 12 * 86_400, n)).tolist(),
        rng.choice([DE, FR, NO_MARKET], n).tolist(),
    )


def random_genres(n_items: int = N_ITEMS) -> NDArray[np.uint16]:
    """Up to three genres of four, each once."""
    rng = np.random.default_rng(3)
    genres = np.full((n_items, 3), NO_CODE, dtype=np.uint16)
    for row in range(n_items):
        own = rng.permutation(len(NAMES))[: rng.integers(0, 4)]
        genres[row, : len(own)] = own
    return genres


def slow_counts(plays: Events, genres: NDArray[np.uint16]) -> Counts:
    listeners: dict[tuple[Segment, int, int], set[int]] = defaultdict(set)
    window = buckets_in_window(NOW_S)
    columns = (plays.users, plays.rows, plays.times_s, plays.markets)
    for user, row, at_s, market in zip(*(column.tolist() for column in columns), strict=True):
        if at_s > NOW_S or bucket_of(at_s) not in window:
            continue
        markets = [None] if market == NO_MARKET else [None, market_name(market)]
        own = [None, *(NAMES[code] for code in genres[row] if code != NO_CODE)]
        for where, genre in product(markets, own):
            listeners[Segment(where, genre), bucket_of(at_s), row].add(user)
    counts: Counts = defaultdict(dict)
    for (segment, bucket, row), users in listeners.items():
        counts[segment, bucket][row] = len(users)
    return counts


def as_counts(trends: TrendCounts) -> Counts:
    return {
        (one.segment, one.bucket): dict(zip(one.rows.tolist(), one.counts.tolist(), strict=True))
        for one in segment_buckets(trends, NAMES)
    }


def test_counts_are_what_a_slow_count_gives() -> None:
    plays, genres = random_plays(), random_genres()

    trends = count_trends(plays, genres, order="time", as_of_s=NOW_S, limits=ALL)

    expected = slow_counts(plays, genres)
    assert len({segment for segment, _ in expected}) == 15
    assert as_counts(trends) == expected


def test_columns_are_by_segment_then_bucket_then_listeners_then_row() -> None:
    trends = count_trends(random_plays(), random_genres(), order="time", as_of_s=NOW_S, limits=ALL)

    found = list(segment_buckets(trends, NAMES))
    segments = list(dict.fromkeys(one.segment for one in found))
    totals = Counter[Segment]()
    for one in found:
        totals[one.segment] += int(one.counts.sum())
        assert one.rows.tolist() == one.rows[np.lexsort((one.rows, -one.counts))].tolist()
    assert segments[0] == GLOBAL
    listening = [totals[segment] for segment in segments[1:]]
    assert listening == sorted(listening, reverse=True)
    places = [(segments.index(one.segment), one.bucket) for one in found]
    assert places == sorted(set(places))


def test_a_user_in_two_markets_counts_once_everywhere() -> None:
    plays = events([0, 0, 1], [5, 5, 5], [NOW_S - 60] * 3, [DE, FR, NO_MARKET])

    trends = count_trends(plays, random_genres(), order="time", as_of_s=NOW_S, limits=ALL)

    bucket = bucket_of(NOW_S - 60)
    counts = as_counts(trends)
    assert counts[GLOBAL, bucket] == {5: 2}
    assert counts[Segment("DE"), bucket] == counts[Segment("FR"), bucket] == {5: 1}


@pytest.mark.parametrize("order", ["position", "none"])
def test_without_times_everything_counts_in_the_bucket_of_the_moment(order: str) -> None:
    plays = events([0, 0, 1], [1, 1, 1])

    trends = count_trends(plays, random_genres(), order=order, as_of_s=NOW_S, limits=ALL)

    assert as_counts(trends)[GLOBAL, bucket_of(NOW_S)] == {1: 2}


def test_a_bucket_keeps_its_top_items() -> None:
    n = TOP_ITEMS + 20
    plays = events([0] * n + [1] * 3, [*range(n), n - 1, n - 2, n - 3], [NOW_S] * (n + 3))
    genres = np.full((n, 3), NO_CODE, dtype=np.uint16)

    trends = count_trends(plays, genres, order="time", as_of_s=NOW_S, limits=ALL)

    assert trends.rows.tolist() == [n - 3, n - 2, n - 1, *range(TOP_ITEMS - 3)]
    assert trends.counts.tolist() == [2] * 3 + [1] * (TOP_ITEMS - 3)


def test_only_segments_worth_it_are_counted_and_everywhere_always() -> None:
    plays = events([0, 1, 2], [1, 1, 2], [NOW_S] * 3, [DE, DE, FR])
    genres = np.full((N_ITEMS, 3), NO_CODE, dtype=np.uint16)

    def segments(limits: SegmentLimits) -> set[Segment]:
        trends = count_trends(plays, genres, order="time", as_of_s=NOW_S, limits=limits)
        return {one.segment for one in segment_buckets(trends, NAMES)}

    assert segments(ALL) == {GLOBAL, Segment("DE"), Segment("FR")}
    assert segments(SegmentLimits(segments=2, least_listening=1)) == {GLOBAL, Segment("DE")}
    assert segments(SegmentLimits(least_listening=2)) == {GLOBAL, Segment("DE")}
    assert segments(SegmentLimits(segments=1, least_listening=1)) == {GLOBAL}
    assert segments(SegmentLimits()) == {GLOBAL}


def test_no_plays_are_no_counts() -> None:
    trends = count_trends(events([], []), random_genres(), order="time", as_of_s=NOW_S)

    assert len(trends.rows) == 0
    assert list(segment_buckets(trends, NAMES)) == []
    assert snapshot_of(trends, ItemKeys(np.zeros(0, np.uint64)), NAMES, NOW_S).segments.keys() == {
        GLOBAL
    }


def test_a_genre_whose_name_cannot_be_a_key_has_no_segment() -> None:
    plays = events([0], [0], [NOW_S])
    genres = np.array([[0, 1, 2]], dtype=np.uint16)

    trends = count_trends(plays, genres, order="time", as_of_s=NOW_S, limits=ALL)

    found = {one.segment for one in segment_buckets(trends, ["", "x" * 201, "Rock"])}
    assert found == {GLOBAL, Segment(None, "Rock")}


def test_a_snapshot_is_what_a_store_answers_that_was_filled_with_the_counts() -> None:
    ids = sorted((f"item-{n}" for n in range(N_ITEMS)), key=lambda name: item_keys([name])[0])
    items = ItemKeys(item_keys(ids))
    texts = ItemTexts.of(ids, ids, ids)
    trends = count_trends(random_plays(), random_genres(), order="time", as_of_s=NOW_S, limits=ALL)
    store = InMemoryTrendingStore(TrendingMemory())

    fill_store(store, bucket_counts(trends, texts, NAMES), now_s=NOW_S)
    snapshot = snapshot_of(trends, items, NAMES, NOW_S)

    assert len(snapshot.segments) == 15
    for segment, top in snapshot.segments.items():
        served = rank_segment(store.read_segment(segment, NOW_S), NOW_S)
        assert len(top)
        assert np.array_equal(top.keys, served.keys)
        assert np.array_equal(top.scores, served.scores)
