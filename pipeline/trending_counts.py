"""Trending counts of a log: plays per segment, bucket and item.

One function counts for everybody: training (a snapshot as of each cut), the bundle (what `meshctl
up` loads into its DynamoDB) and `meshctl trending load`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import NO_MARKET, Events
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
from signals.bundle import NO_CODE, market_name
from signals.keys import item_keys

MIN_PLAYS = 50
"""Plays that a segment needs in the window; a quieter one says little and costs writes."""
MAX_SEGMENTS = 500
"""Segments that are counted, those with most plays; a blend falls back to broader ones."""

_ANYWHERE = np.uint32(NO_MARKET << 16 | NO_CODE)


@dataclass(frozen=True, slots=True)
class TrendingItems:
    """What counting needs to know of a catalogue."""

    ids: Sequence[str]
    genres: NDArray[np.uint16]
    """uint16 [n, 3], padded with `NO_CODE`."""
    genre_names: Sequence[str]


def count_trends(
    events: Events, items: TrendingItems, *, order: str, as_of_s: int
) -> list[BucketCounts]:
    """Return the `TOP_ITEMS` most played items of every segment and bucket of the window.

    Without times everything counts as played in the bucket of `as_of_s`. Segments come in order
    of their plays, everywhere first; buckets oldest first; items by plays, ties by row.
    """
    window = _in_window(events, order, as_of_s)
    if not len(window.rows):
        return []
    buckets = np.full(len(window), bucket_of(as_of_s), dtype=np.int64)
    if order == "time":
        buckets = window.times_s // BUCKET_S
    segments, plays = _spread(window, buckets, items.genres)
    return _tops(segments, plays, items)


def snapshot_of(counts: Sequence[BucketCounts], now_s: float) -> TrendingSnapshot:
    """Return the snapshot that a refresher would hold after these counts were rolled up."""
    tops: dict[Segment, list[BucketTop]] = {GLOBAL: []}
    for one in counts:
        tops.setdefault(one.segment, []).append(
            BucketTop(
                bucket=one.bucket,
                keys=item_keys(one.item_ids),
                counts=np.array(one.counts, dtype=np.uint64),
                rolled_at_s=now_s,
            )
        )
    ranked = {segment: rank_segment(buckets, now_s) for segment, buckets in tops.items()}
    return TrendingSnapshot(segments=MappingProxyType(ranked), taken_at_s=0.0)


def _in_window(events: Events, order: str, as_of_s: int) -> Events:
    if order != "time":
        return events
    oldest = buckets_in_window(as_of_s).start
    return events.where((events.times_s // BUCKET_S >= oldest) & (events.times_s <= as_of_s))


def _spread(
    plays: Events, buckets: NDArray[np.int64], genres: NDArray[np.uint16]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return every (segment code, [bucket, row]) that each play counts for.

    A segment code is the market in the upper 16 bits and the genre in the lower, either of them
    "any". A play counts everywhere, in its market, in each of its genres, and in both at once.
    """
    anywhere = np.full(len(plays), NO_MARKET, dtype=np.uint32)
    any_genre = np.full(len(plays), NO_CODE, dtype=np.uint32)
    own_genres = genres[plays.rows].astype(np.uint32)
    codes, places = [], []
    for market in (anywhere, plays.markets.astype(np.uint32)):
        for genre in (any_genre, *own_genres.T):
            is_own = ((genre != NO_CODE) | (genre is any_genre)) & (
                (market != NO_MARKET) | (market is anywhere)
            )
            codes.append((market << np.uint32(16) | genre)[is_own])
            places.append(np.flatnonzero(is_own))
    place = np.concatenate(places)
    return np.concatenate(codes), np.stack([buckets[place], plays.rows[place].astype(np.int64)])


def _tops(
    segments: NDArray[np.uint32], plays: NDArray[np.int64], items: TrendingItems
) -> list[BucketCounts]:
    kept = _largest(segments)
    order_of_segment = np.argsort(kept, kind="stable")
    found = np.searchsorted(kept[order_of_segment], segments)
    found = np.minimum(found, len(kept) - 1)
    is_kept = kept[order_of_segment[found]] == segments
    keys = np.stack([order_of_segment[found][is_kept], *plays[:, is_kept]])
    distinct, counts = np.unique(keys, axis=1, return_counts=True)
    segment, bucket, row = distinct
    best = np.lexsort((row, -counts, bucket, segment))
    starts = np.flatnonzero(
        np.diff(segment[best], prepend=-1).astype(bool) | np.diff(bucket[best], prepend=-1).astype(bool)
    )
    return [
        BucketCounts(
            segment=_segment(int(kept[segment[group[0]]]), items.genre_names),
            bucket=int(bucket[group[0]]),
            item_ids=[items.ids[item] for item in row[group[:TOP_ITEMS]].tolist()],
            counts=counts[group[:TOP_ITEMS]].tolist(),
        )
        for group in np.split(best, starts[1:])
    ]


def _largest(segments: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the segments to count: everywhere, then those with most plays, ties by code."""
    codes, counts = np.unique(segments, return_counts=True)
    others = codes[(counts >= MIN_PLAYS) & (codes != _ANYWHERE)]
    plays = counts[(counts >= MIN_PLAYS) & (codes != _ANYWHERE)]
    most = others[np.lexsort((others, -plays))][: MAX_SEGMENTS - 1]
    return np.concatenate([[_ANYWHERE], most]).astype(np.uint32)


def _segment(code: int, genre_names: Sequence[str]) -> Segment:
    market, genre = code >> 16, code & 0xFFFF
    return Segment(
        market=None if market == NO_MARKET else market_name(market),
        genre=None if genre == NO_CODE else genre_names[genre],
    )
