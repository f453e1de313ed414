"""What trends: counts of segments in time buckets, their score, and the blend that a request gets.

How this works. Plays (from logs: listeners) are counted per segment (a market, a genre, both, or
neither), bucket of six hours and item. Writers leave counts in a `TrendingStore`; a roll-up
reduces every segment and bucket to its top items; a refresher reads those tops and ranks each
segment by
    score(item) = sum over buckets of the window: n * 2^(-age / half-life),
with the age taken from the bucket's middle. A request is answered from the resulting
`TrendingSnapshot` alone, by `trending_blend`.

Errors of a store:
    TrendingStoreError
    |- TrendingStoreUnavailableError    no answer in time; try again later
    |- TrendingStoreThrottledError      asked to slow down; try again later, and less
    |- TrendingStoreMisconfiguredError  no table, no credentials, no permission; a person must act
    `- TrendingRowInvalidError          an answer that cannot be read
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Protocol, Self
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from signals.limits import MAX_ID_BYTES

BUCKET_S = 6 * 3600
"""Length of a bucket in seconds: night and evening apart, and a week is one page of 29 rows."""
WINDOW_S = 7 * 24 * 3600
"""How far back counts matter, in seconds: 14 days gained 6 % more, for twice the rows to read."""
HALF_LIFE_S = 96 * 3600
"""Age in seconds at which a play counts half. Unseen plays of the following week on 30Music, eight
weekly cuts, summed DCG@50 a user: 24 h 0.091, 48 h 0.107, 96 h 0.115, 168 h 0.115."""
TOP_ITEMS = 500
"""Items kept per segment and bucket: at the longest ids a row stays below DynamoDB's 400 KB."""
SEGMENT_ITEMS = 2_000
"""Items kept per segment in a snapshot: as many as a source may be asked for."""

MAX_SEGMENT_PART_BYTES = 200
"""Longest market or genre, in bytes of UTF-8: escaped threefold, a key stays below 2,048 bytes."""

ANY = "*"
_ESCAPES = str.maketrans({"%": "%25", "#": "%23", "*": "%2A"})


class TrendingStoreError(Exception):
    """A trending store could not do what was asked."""


class TrendingStoreUnavailableError(TrendingStoreError):
    """The store did not answer in time, or not at all."""


class TrendingStoreThrottledError(TrendingStoreError):
    """The store asked to slow down, beyond our retries."""


class TrendingStoreMisconfiguredError(TrendingStoreError):
    """A table, credentials or a permission are missing; retrying does not help."""


class TrendingRowInvalidError(TrendingStoreError):
    """A stored row is damaged or of a newer format."""


def is_segment_part(part: str) -> bool:
    """Tell whether a market or genre of this name can have a segment."""
    return 1 <= len(part.encode()) <= MAX_SEGMENT_PART_BYTES


def _check_part(field: str, part: str | None) -> None:
    if part is not None and not is_segment_part(part):
        raise ValueError(
            f"{field} has {len(part.encode())} bytes of UTF-8; "
            f"allowed are 1 to {MAX_SEGMENT_PART_BYTES}"
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Whom counts are about. None is any market, any genre.

    Raises ValueError for an empty part and for one longer than `MAX_SEGMENT_PART_BYTES`.
    """

    market: str | None = None
    genre: str | None = None

    def __post_init__(self) -> None:
        _check_part("market", self.market)
        _check_part("genre", self.genre)

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Return the segment that has this `key`. Raises ValueError for the key of none."""
        market, genre = key.split("#")
        return cls(_unescape(market), _unescape(genre))

    @property
    def key(self) -> str:
        """`market#genre` with `*` for any; `%`, `#` and `*` inside a name are percent-escaped."""
        return f"{_escape(self.market)}#{_escape(self.genre)}"


GLOBAL = Segment()


def bucket_of(timestamp_s: float) -> int:
    """Return the number of the bucket that holds `timestamp_s` (unix seconds)."""
    return math.floor(timestamp_s / BUCKET_S)


def buckets_in_window(now_s: float) -> range:
    """Return the buckets that overlap the window ending at `now_s`, oldest first.

    A bucket that starts after `now_s` is not among them.
    """
    return range(bucket_of(now_s - WINDOW_S), bucket_of(now_s) + 1)


def bucket_weight(bucket: int, now_s: float) -> float:
    """Return 2^(-age / half-life), age counted from the bucket's middle and never negative."""
    age_s = max(0.0, now_s - (bucket + 0.5) * BUCKET_S)
    return float(2.0 ** (-age_s / HALF_LIFE_S))


@dataclass(frozen=True, slots=True)
class BucketCounts:
    """Counts of one segment in one bucket.

    Raises ValueError for columns of different length, an item twice, a count below 1, and an item
    id that `item_id_fault` finds fault with.
    """

    segment: Segment
    bucket: int
    item_ids: Sequence[str]
    counts: Sequence[int]
    """Parallel to `item_ids`."""

    def __post_init__(self) -> None:
        if len(self.item_ids) != len(self.counts):
            raise ValueError(f"{len(self.item_ids)} item_ids but {len(self.counts)} counts")
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError("item_ids names an item twice")
        if self.counts and min(self.counts) < 1:
            raise ValueError(f"counts holds {min(self.counts)}; the least is 1")
        for fault in filter(None, map(item_id_fault, self.item_ids)):
            raise ValueError(fault)


@dataclass(frozen=True, slots=True)
class BucketTop:
    """The rolled-up top of one segment in one bucket."""

    bucket: int
    keys: NDArray[np.uint64]
    """Item keys (`signals.keys`), uint64 [n], highest count first, ties by item id."""
    counts: NDArray[np.uint64]
    """uint64 [n], parallel to `keys`."""
    rolled_at_s: float
    """When it was rolled up, unix seconds of the roll-up's clock."""


class RollUpOutcome(Enum):
    """How a roll-up ended."""

    DONE = "done"
    HELD_ELSEWHERE = "held elsewhere"
    """Another worker holds the lease; nothing was written."""
    LEASE_LOST = "lease lost"
    """Another worker took the lease over while we worked; we stopped, and it will finish."""


@dataclass(frozen=True, slots=True)
class RollUp:
    """The result of `TrendingStore.roll_up`."""

    outcome: RollUpOutcome
    written: int
    """Tops that were written."""


class TrendingStore(Protocol):
    """Where counts and tops are kept. Every method raises `TrendingStoreError`."""

    def put_counts(self, counts: Sequence[BucketCounts], *, loader: str) -> None:
        """Set what `loader` counted in the buckets that `counts` names.

        The counts of one bucket take effect together and replace everything that the same loader
        put there before, in any segment: loading again never counts twice. Counts of other
        loaders and of `add` stay. Two loaders of one name must not run at once. Raises ValueError
        for an empty `loader` or one with `#`, and for a segment and bucket named twice.
        """
        ...

    def add(self, counts: Sequence[BucketCounts]) -> None:
        """Add to what live writers counted, each count atomically; any number may run at once.

        A call that raised may have added a part; an attempt whose answer was lost is made again
        and then counts twice.
        """
        ...

    def roll_up(
        self, segments: Sequence[Segment], buckets: Sequence[int], *, now_s: float
    ) -> RollUp:
        """Sum all counts of every segment in every bucket and store the top `TOP_ITEMS` of each.

        Segments that have a top in a bucket already are rolled up there as well, named or not: what
        a loader no longer counts must not stay. One worker at a time does so, under a lease.
        `now_s` (unix seconds) is noted as the tops' `rolled_at_s`.
        """
        ...

    def segments(self, now_s: float) -> frozenset[Segment]:
        """Return the segments with a top in the window ending at `now_s`.

        A segment whose tops have become empty may still be among them.
        """
        ...

    def read_segment(self, segment: Segment, now_s: float) -> list[BucketTop]:
        """Return the tops of a segment's buckets in the window ending at `now_s`, oldest first.

        Buckets outside the window are never returned, whether or not the store has deleted them.
        """
        ...


@dataclass(frozen=True, slots=True)
class SegmentTop:
    """A segment, ranked: parallel columns, best first, ties by item key, each item once."""

    keys: NDArray[np.uint64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


EMPTY_TOP = SegmentTop(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class TrendingSnapshot:
    """Everything that trending requests are answered from. Never changed, only replaced.

    Equal to nothing but itself, so that what was made of one is never taken for another's.
    """

    segments: Mapping[Segment, SegmentTop]
    """One without counts, and one that nobody asked for, is absent."""
    taken_at_s: float | None
    """When the store was last read in full, in seconds of the refresher's elapsed-time clock
    (not unix time); None: never yet."""

    def age_s(self, elapsed_s: float) -> float | None:
        """Return the seconds since the store was last read, given the same clock's time now."""
        return None if self.taken_at_s is None else max(0.0, elapsed_s - self.taken_at_s)


NO_SNAPSHOT = TrendingSnapshot(segments=MappingProxyType({}), taken_at_s=None)


def item_id_fault(item_id: str) -> str | None:
    """Return why an item id cannot be a key of a store; None: it can."""
    size = len(item_id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        return (
            f"an item id has {size} bytes of UTF-8; allowed are 1 to {MAX_ID_BYTES}: "
            f"{item_id[:40]!r}"
        )
    if any(character < " " for character in item_id):
        return f"an item id holds a control character: {item_id!r}"
    return None


def check_load(counts: Sequence[BucketCounts], loader: str) -> None:
    """Raise ValueError for what `TrendingStore.put_counts` does not take."""
    if not loader or "#" in loader:
        raise ValueError(f"loader {loader!r}: needs a name without #")
    places = [(one.segment, one.bucket) for one in counts]
    if len(set(places)) != len(places):
        raise ValueError("counts names a segment and bucket twice")


def top_of(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the `TOP_ITEMS` highest counts, highest first, ties by item id."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP_ITEMS]


def rank_segment(tops: Sequence[BucketTop], now_s: float) -> SegmentTop:
    """Merge a segment's buckets into one ranking of at most `SEGMENT_ITEMS` items.

    The score is the module's formula; it is finite and positive.
    """
    weighted = [
        (top.keys, top.counts.astype(np.float64) * bucket_weight(top.bucket, now_s)) for top in tops
    ]
    return _best_first(*_sum_by_key(weighted), SEGMENT_ITEMS)


def _sum_by_key(
    columns: Sequence[tuple[NDArray[np.uint64], NDArray[np.float64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Return the distinct keys, rising, with the sum of each key's values."""
    if not columns:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.float64)
    keys, places = np.unique(np.concatenate([keys for keys, _ in columns]), return_inverse=True)
    values = np.concatenate([values for _, values in columns])
    sums = np.bincount(places, weights=values, minlength=len(keys))
    return keys, sums.astype(np.float64, copy=False)


def _best_first(keys: NDArray[np.uint64], scores: NDArray[np.float64], limit: int) -> SegmentTop:
    # Narrowed before the sort: items that are equal in the answer must tie in the order as well.
    narrow = scores.astype(np.float32)
    order = np.lexsort((keys, -narrow))[:limit]
    return SegmentTop(keys[order], narrow[order])


def _escape(part: str | None) -> str:
    return ANY if part is None else part.translate(_ESCAPES)


def _unescape(part: str) -> str | None:
    return None if part == ANY else unquote(part)
