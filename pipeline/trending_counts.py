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

from pipeline.columns import Columns, distinct, is_first, place_in_group, sort_columns, stack
from pipeline.event_log import Events
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    MAX_SEGMENT_PART_BYTES,
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

_EVERYWHERE = NO_MARKET << 16 | NO_CODE


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """What is worth a segment of its own; the global one always is."""

    segments: int = 65
    """Segments that are counted, those with most listening, the global one among them. Each is 29
    rows to roll up and a query every half minute: 64 load in 8 s and are read in 3 s on the
    embedded engine."""
    least_listening: int = 100
    """Listening that a segment needs in the window; below that an order is chance."""


DEFAULT_LIMITS = SegmentLimits()


@dataclass(frozen=True, slots=True)
class SegmentBucket:
    """The counts of one segment in one bucket."""

    segment: Segment
    bucket: int
    rows: NDArray[np.uint32]
    counts: NDArray[np.int64]


def count_trends(
    events: Events,
    genres: NDArray[np.uint16],
    *,
    order: str,
    as_of_s: int,
    limits: SegmentLimits = DEFAULT_LIMITS,
) -> TrendCounts:
    """Return the `TOP_ITEMS` items with most listeners of every segment and bucket of the window.

    `genres` is `ItemTraits.genres`: an item counts in each of its own, named once. The window is
    the buckets that `buckets_in_window` names, up to `as_of_s`; without times everything counts in
    the bucket of `as_of_s`.
    """
    plays, buckets = plays_in_window(events, order=order, as_of_s=as_of_s)
    listening = _spread_over_genres(_count_listeners(plays, buckets), genres)
    segments = listening[0] << 16 | listening[1]
    kept = _largest(segments, listening[4], limits)
    best = _tops(_places_in(kept, segments), listening[2:])
    codes = kept[best[0]]
    return TrendCounts(
        markets=(codes >> 16).astype(np.uint16),
        genres=(codes & 0xFFFF).astype(np.uint16),
        buckets=best[1],
        rows=best[3].astype(np.uint32),
        counts=-best[2],
    )


def plays_in_window(
    events: Events, *, order: str, as_of_s: int
) -> tuple[Events, NDArray[np.int64]]:
    """Return the events that count as of a moment, and the bucket of each."""
    if order != "time":
        return events, np.full(len(events), bucket_of(as_of_s), dtype=np.int64)
    buckets = events.times_s // BUCKET_S
    counts = (buckets >= buckets_in_window(as_of_s).start) & (events.times_s <= as_of_s)
    return events.where(counts), buckets[counts]


def segment_buckets(trends: TrendCounts, genre_names: Sequence[str]) -> Iterator[SegmentBucket]:
    """Yield the counts of every segment and bucket, in order.

    A genre whose name is empty or too long for a key has no segment.
    """
    starts = np.flatnonzero(is_first(stack(trends.markets, trends.genres, trends.buckets)))
    ends = np.append(starts, len(trends.rows))[1:]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        segment = _segment(int(trends.markets[start]), int(trends.genres[start]), genre_names)
        if segment is not None:
            span = slice(start, end)
            yield SegmentBucket(
                segment, int(trends.buckets[start]), trends.rows[span], trends.counts[span]
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


def _segment(market: int, genre: int, genre_names: Sequence[str]) -> Segment | None:
    genre_name = None if genre == NO_CODE else genre_names[genre]
    if genre_name is not None and not 1 <= len(genre_name.encode()) <= MAX_SEGMENT_PART_BYTES:
        return None
    return Segment(None if market == NO_MARKET else market_name(market), genre_name)


def _count_listeners(plays: Events, buckets: NDArray[np.int64]) -> Columns:
    """Return (market, bucket, row, listeners), `NO_MARKET` for all markets together.

    A user who played an item in two markets counts once there.
    """
    own = stack(plays.markets, buckets, plays.rows, plays.users)
    everywhere = own.copy()
    everywhere[0] = NO_MARKET
    own = own[:, plays.markets != NO_MARKET]
    counted = [distinct(distinct(each)[0][:3]) for each in (everywhere, own)]
    return np.concatenate([np.vstack([places, count]) for places, count in counted], axis=1)


def _spread_over_genres(listeners: Columns, genres: NDArray[np.uint16]) -> Columns:
    """Return (market, genre, bucket, row, listeners), `NO_CODE` for all genres together."""
    market, bucket, row, count = listeners
    codes = np.column_stack([np.full(len(row), NO_CODE, dtype=np.uint16), genres[row]])
    is_own = codes != NO_CODE
    is_own[:, 0] = True
    place, column = np.nonzero(is_own)
    return stack(market[place], codes[place, column], bucket[place], row[place], count[place])


def _largest(
    segments: NDArray[np.int64], listeners: NDArray[np.int64], limits: SegmentLimits
) -> NDArray[np.int64]:
    """Return the segments to count: everywhere, then those with most listening, ties by code."""
    codes, places = np.unique(segments, return_inverse=True)
    listening = np.bincount(places, weights=listeners, minlength=len(codes))
    is_worth = (listening >= limits.least_listening) & (codes != _EVERYWHERE)
    codes, listening = codes[is_worth], listening[is_worth]
    most = codes[np.lexsort((codes, -listening))][: limits.segments - 1]
    return np.concatenate([[_EVERYWHERE], most]).astype(np.int64)


def _tops(places: NDArray[np.int64], listening: Columns) -> Columns:
    """Return (segment's place, bucket, -listeners, row), of each bucket the best; -1 is no place.

    `listening` is (bucket, row, listeners).
    """
    bucket, row, count = listening[:, places >= 0]
    best = sort_columns(stack(places[places >= 0], bucket, -count, row))
    return best[:, place_in_group(best[:2]) < TOP_ITEMS]


def _places_in(kept: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the place of each segment in `kept`, -1 where it is not there."""
    order = np.argsort(kept)
    found = np.minimum(np.searchsorted(kept[order], segments), len(kept) - 1)
    return np.where(kept[order][found] == segments, order[found], -1)
