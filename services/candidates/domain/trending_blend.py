"""The blend of trending segments that a request gets, in rows of one bundle, made once.

How this works. With top(s) a segment's ranking divided by its best score,
    score = MARKET_WEIGHT * top(market) + GLOBAL_WEIGHT * top(everywhere)
            + GENRE_WEIGHT * sum over genres g, g = 0, 1, ...: 2^-g * top(market, genre g).
A genre that has nothing in the market is read for all markets; where the market has nothing, or
none is given, everywhere takes its place and weight. That depends on the snapshot, the market and
the leading genres only, so many requests share a blend; it is kept until the snapshot is replaced.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.trending import (
    EMPTY_TOP,
    GLOBAL,
    Segment,
    SegmentTop,
    TrendingSnapshot,
    is_segment_part,
)
from signals.bundle import ItemKeys
from signals.row_sums import sums_by_row
from signals.tiers import Tier

MARKET_WEIGHT = 1.0
"""Weight of the market's own segment in a blend; the others are relative to it."""
GLOBAL_WEIGHT = 0.2
"""Weight of all markets together beside a market's own: it fills and breaks ties."""
GENRE_WEIGHT = 0.5
"""Weight of the user's first genre; each further one weighs half of the one before."""
BLENDED_GENRES = 3
"""Leading genres that a blend reads: the fourth would weigh 1/16."""
BLENDED_ITEMS = 4_000
"""Items that a blend may hold: the tops of two full segments."""
MAX_BLENDS = 256
"""Blends kept, the least lately asked for given up first: 32 KB each at most."""

_NO_ROWS = np.zeros(0, dtype=np.uint32)
_NO_VALUES = np.zeros(0, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Blend:
    """What trends for a market and genres: parallel columns, best first, ties by row."""

    rows: NDArray[np.uint32]
    """Each once; items that the bundle lacks are left out."""
    scores: NDArray[np.float32]
    tier: Tier
    """The best rung of the ladder that it stands on."""
    segments: tuple[Segment, ...]
    """What it was read from, or would have been."""


class Blends:
    """Blends of the newest snapshot, in rows of one bundle; any thread may ask."""

    def __init__(self, items: ItemKeys, max_blends: int = MAX_BLENDS) -> None:
        self.items = items
        self._max_blends = max_blends
        self._held = _Held(None, items, max_blends)

    def of(self, snapshot: TrendingSnapshot, market: str, genres: Sequence[str]) -> Blend:
        """Return the blend of `snapshot` for a market (empty: none) and genres, best first.

        Of `genres`, `leading` are read. At most `BLENDED_ITEMS`, none where nothing fits.
        """
        held = self._held
        if not held.is_of(snapshot):
            # Requests that began before a refresh may throw out what is newer: it is made again.
            self._held = held = _Held(snapshot, self.items, self._max_blends)
        return held.blend(snapshot, market, tuple(leading(genres)))


@dataclass(frozen=True, slots=True)
class _RowTop:
    """A segment's items that the bundle has: parallel columns, in the segment's order."""

    rows: NDArray[np.uint32]
    scores: NDArray[np.float32]
    best_score: float
    """Of all items of the segment."""

    @classmethod
    def of(cls, top: SegmentTop, items: ItemKeys) -> Self:
        found = items.rows_of_keys(top.keys)
        is_held = found >= 0
        return cls(found[is_held].astype(np.uint32), top.scores[is_held], float(top.scores[0]))

    def weighted(self, weight: float) -> NDArray[np.float64]:
        return self.scores.astype(np.float64) * (weight / self.best_score)


class _Held:
    """What was made of one snapshot. It knows the snapshot only as long as others hold it."""

    def __init__(self, snapshot: TrendingSnapshot | None, items: ItemKeys, most: int) -> None:
        self._snapshot = None if snapshot is None else weakref.ref(snapshot)
        self._items = items
        self._most = most
        self._tops: dict[Segment, _RowTop] = {}
        self._blends: OrderedDict[tuple[str, tuple[str, ...]], Blend] = OrderedDict()
        self._lock = threading.Lock()

    def is_of(self, snapshot: TrendingSnapshot) -> bool:
        return self._snapshot is not None and self._snapshot() is snapshot

    def blend(self, snapshot: TrendingSnapshot, market: str, genres: tuple[str, ...]) -> Blend:
        with self._lock:
            found = self._blends.get((market, genres))
            if found is not None:
                self._blends.move_to_end((market, genres))
                return found
        made = self._make(snapshot, market, genres)
        with self._lock:
            self._blends[market, genres] = made
            if len(self._blends) > self._most:
                self._blends.popitem(last=False)
        return made

    def _make(self, snapshot: TrendingSnapshot, market: str, genres: tuple[str, ...]) -> Blend:
        weighted = weighted_segments(snapshot, market, genres)
        tops = [self._top(snapshot, segment) for segment, _ in weighted]
        values = [top.weighted(weight) for top, (_, weight) in zip(tops, weighted, strict=True)]
        rows, scores = sums_by_row(
            np.concatenate([_NO_ROWS, *(top.rows for top in tops)]),
            np.concatenate([_NO_VALUES, *values]),
        )
        return Blend(
            rows[:BLENDED_ITEMS].copy(),  # a view would hold all that was summed
            scores[:BLENDED_ITEMS].copy(),
            tier_of(snapshot, market, genres),
            tuple(segments_for(market, genres)),
        )

    def _top(self, snapshot: TrendingSnapshot, segment: Segment) -> _RowTop:
        top = self._tops.get(segment)
        if top is None:
            top = self._tops[segment] = _RowTop.of(snapshot.segments[segment], self._items)
        return top


def segments_for(market: str, genres: Sequence[str]) -> list[Segment]:
    """Return every segment that a blend would read for these arguments, broadest first."""
    markets = [None, market] if market else [None]
    return [Segment(where, genre) for genre in [None, *leading(genres)] for where in markets]


def leading(genres: Sequence[str]) -> list[str]:
    """Return the first `BLENDED_GENRES` of `genres` that can have a segment, each once."""
    return [genre for genre in dict.fromkeys(genres) if is_segment_part(genre)][:BLENDED_GENRES]


def tier_of(snapshot: TrendingSnapshot, market: str, genres: Sequence[str]) -> Tier:
    """Return the best rung of the ladder that a blend stands on for these arguments."""
    if market:
        if _first_held(snapshot, *(Segment(market, genre) for genre in leading(genres))):
            return Tier.TRENDING_MARKET_GENRE
        if _first_held(snapshot, Segment(market)):
            return Tier.TRENDING_MARKET
    return Tier.TRENDING_GLOBAL


def weighted_segments(
    snapshot: TrendingSnapshot, market: str, genres: Sequence[str]
) -> list[tuple[Segment, float]]:
    """Return the segments to sum with their weights, without the empty ones."""
    own = market or None
    base = _first_held(snapshot, Segment(own), GLOBAL)
    weighted = [(base, MARKET_WEIGHT)]
    if base != GLOBAL:
        weighted.append((_first_held(snapshot, GLOBAL), GLOBAL_WEIGHT))
    for place, genre in enumerate(leading(genres)):
        segment = _first_held(snapshot, Segment(own, genre), Segment(None, genre))
        weighted.append((segment, GENRE_WEIGHT * 2.0**-place))
    return [(segment, weight) for segment, weight in weighted if segment is not None]


def _first_held(snapshot: TrendingSnapshot, *segments: Segment) -> Segment | None:
    """Return the first of the segments that has items."""
    return next((one for one in segments if len(snapshot.segments.get(one, EMPTY_TOP))), None)
