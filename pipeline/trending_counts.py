"""Trending counts of a log: listeners per segment, bucket and item.

One function counts for everybody: training (what trended as of each cut), the bundle (what
`meshctl up` loads into its DynamoDB) and `meshctl trending load`. A count is of distinct users:
on 30Music 15 % better than plays, since one listener on repeat is no trend.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import Events
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    TOP_ITEMS,
    BucketCounts,
    BucketTop,
    Segment,
    TrendingSnapshot,
    bucket_of,
    buckets_in_window,
    rank_segment,
)
from signals.bundle import NO_CODE, NO_MARKET, ItemKeys, ItemTexts, TrendCounts, market_name

MAX_SEGMENTS = 65
"""Segments that are counted, those with most listening. Each is 29 rows to roll up and a query
every half minute: 64 load in 8 s and are read in 3 s on the embedded engine."""
MIN_LISTENING = 100
"""Listening that a segment needs in the window; below that an order is chance."""

_EVERYWHERE = NO_MARKET << 16 | NO_CODE


@dataclass(frozen=True, slots=True)
class SegmentBucket:
    """The counts of one segment in one bucket."""

    segment: Segment
    bucket: int
    rows: NDArray[np.uint32]
    counts: NDArray[np.int64]


def count_trends(
    events: Events, genres: NDArray[np.uint16], *, order: str, as_of_s: int
) -> TrendCounts:
    """Return the `TOP_ITEMS` items with most listeners of every segment and bucket of the window.

    `genres` is `ItemTraits.genres`. Without times everything counts in the bucket of `as_of_s`.
    """
    window, buckets = _in_window(events, order, as_of_s)
    segments, plays = _spread(window, buckets, genres)
    kept = _largest(segments)
    places = _places_in(kept, segments)
    listening = np.stack([places, *plays])[:, places >= 0]
    distinct, counts = np.unique(listening[:3], axis=1, return_counts=True)
    place, bucket, row = distinct
    best = np.lexsort((row, -counts, bucket, place))
    best = best[_place_in_group(place[best], bucket[best]) < TOP_ITEMS]
    codes = kept[place[best]]
    return TrendCounts(
        markets=(codes >> 16).astype(np.uint16),
        genres=(codes & 0xFFFF).astype(np.uint16),
        buckets=bucket[best],
        rows=row[best].astype(np.uint32),
        counts=counts[best].astype(np.int64),
    )


def segment_buckets(trends: TrendCounts, genre_names: Sequence[str]) -> Iterator[SegmentBucket]:
    """Yield the counts of every segment and bucket, in order."""
    keys = np.stack([trends.markets, trends.genres, trends.buckets])
    starts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
    for span in np.split(np.arange(len(trends.rows)), starts):
        if len(span):
            market, genre = int(trends.markets[span[0]]), int(trends.genres[span[0]])
            yield SegmentBucket(
                segment=Segment(
                    market=None if market == NO_MARKET else market_name(market),
                    genre=None if genre == NO_CODE else genre_names[genre],
                ),
                bucket=int(trends.buckets[span[0]]),
                rows=trends.rows[span],
                counts=trends.counts[span],
            )


def bucket_counts(
    trends: TrendCounts, texts: ItemTexts, genre_names: Sequence[str]
) -> list[BucketCounts]:
    """Return the counts by external id, as a trending store takes them."""
    return [
        BucketCounts(
            segment=one.segment,
            bucket=one.bucket,
            item_ids=[texts.item_id(row) for row in one.rows.tolist()],
            counts=one.counts.tolist(),
        )
        for one in segment_buckets(trends, genre_names)
    ]


def snapshot_of(
    trends: TrendCounts, items: ItemKeys, genre_names: Sequence[str], now_s: float
) -> TrendingSnapshot:
    """Return the snapshot that a refresher would hold after these counts were rolled up."""
    tops: dict[Segment, list[BucketTop]] = {GLOBAL: []}
    for one in segment_buckets(trends, genre_names):
        top = BucketTop(one.bucket, items.keys[one.rows], one.counts.astype(np.uint64), now_s)
        tops.setdefault(one.segment, []).append(top)
    ranked = {segment: rank_segment(buckets, now_s) for segment, buckets in tops.items()}
    return TrendingSnapshot(segments=MappingProxyType(ranked), taken_at_s=0.0)


def _in_window(events: Events, order: str, as_of_s: int) -> tuple[Events, NDArray[np.int64]]:
    """Return the events that count, and the bucket of each."""
    if order != "time":
        return events, np.full(len(events), bucket_of(as_of_s), dtype=np.int64)
    buckets = events.times_s // BUCKET_S
    counts = (buckets >= buckets_in_window(as_of_s).start) & (events.times_s <= as_of_s)
    return events.where(counts), buckets[counts]


def _spread(
    plays: Events, buckets: NDArray[np.int64], genres: NDArray[np.uint16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the segment code and the (bucket, row, user) of everything that the plays count for.

    A play counts everywhere, in its market, in each of its genres, and in both at once, once a
    user. A code has the market in its upper 16 bits and the genre in its lower.
    """
    own_genres = genres[plays.rows].T.astype(np.int64)
    codes = [np.full(len(plays), _EVERYWHERE, dtype=np.int64)]
    codes += [NO_MARKET << 16 | genre for genre in own_genres]
    codes += [plays.markets.astype(np.int64) << 16 | code & 0xFFFF for code in list(codes)]
    spread = np.stack(codes)
    is_own = spread != _EVERYWHERE  # a play without genre or market is not counted twice
    is_own[0] = True
    place = np.nonzero(is_own)[1]
    listening = np.stack([spread[is_own], buckets[place], plays.rows[place], plays.users[place]])
    once = np.unique(listening, axis=1)
    return once[0], once[1:]


def _largest(segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the segments to count: everywhere, then those with most listening, ties by code."""
    codes, listening = np.unique(segments, return_counts=True)
    is_worth = (listening >= MIN_LISTENING) & (codes != _EVERYWHERE)
    codes, listening = codes[is_worth], listening[is_worth]
    most = codes[np.lexsort((codes, -listening))][: MAX_SEGMENTS - 1]
    return np.concatenate([[_EVERYWHERE], most]).astype(np.int64)


def _places_in(kept: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the place of each segment in `kept`, -1 where it is not there."""
    order = np.argsort(kept)
    found = np.minimum(np.searchsorted(kept[order], segments), len(kept) - 1)
    return np.where(kept[order][found] == segments, order[found], -1)


def _place_in_group(*keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the place of each entry among those with equal keys; equal keys stand together."""
    changes = np.zeros(len(keys[0]), dtype=np.bool_)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    starts = np.maximum.accumulate(np.where(changes, np.arange(len(changes)), 0))
    return np.arange(len(changes)) - starts
