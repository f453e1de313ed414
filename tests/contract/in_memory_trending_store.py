"""A trending store with memory, held to the same contract as the one in DynamoDB."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.candidates.domain.trending import (
    BucketCounts,
    BucketTop,
    RollUp,
    RollUpOutcome,
    Segment,
    buckets_in_window,
    check_load,
    top_of,
)
from signals.keys import item_keys

LEASE_S = 30.0

Place = tuple[Segment, int]


@dataclass(slots=True)
class TrendingMemory:
    """What several stores of one test share, as they would share tables."""

    loads: dict[tuple[str, int], dict[Segment, Counter[str]]] = field(default_factory=dict)
    """(loader, bucket) -> counts of every segment."""
    live: dict[Place, Counter[str]] = field(default_factory=dict)
    tops: dict[Place, BucketTop] = field(default_factory=dict)
    holder: str = ""
    held_until_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class InMemoryTrendingStore:
    """A `TrendingStore` for tests of what is above it."""

    def __init__(
        self,
        memory: TrendingMemory,
        *,
        worker: str = "worker",
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._worker = worker
        self._wall_s = wall_s

    def put_counts(self, counts: Sequence[BucketCounts], *, loader: str) -> None:
        check_load(counts, loader)
        loads: dict[tuple[str, int], dict[Segment, Counter[str]]] = {}
        for one in counts:
            loads.setdefault((loader, one.bucket), {})[one.segment] = _counter(one)
        self._memory.loads.update(loads)

    def add(self, counts: Sequence[BucketCounts]) -> None:
        for one in counts:
            with self._memory.lock:
                self._memory.live.setdefault((one.segment, one.bucket), Counter()).update(
                    _counter(one)
                )

    def roll_up(
        self, segments: Sequence[Segment], buckets: Sequence[int], *, now_s: float
    ) -> RollUp:
        if not self._acquire():
            return RollUp(RollUpOutcome.HELD_ELSEWHERE, 0)
        try:
            return self._roll_up(segments, buckets, now_s)
        finally:
            self._release()

    def segments(self, now_s: float) -> frozenset[Segment]:
        window = buckets_in_window(now_s)
        tops = self._memory.tops.items()
        return frozenset(
            segment for (segment, bucket), top in tops if bucket in window and len(top.keys)
        )

    def read_segment(self, segment: Segment, now_s: float) -> list[BucketTop]:
        tops = self._memory.tops
        return [
            tops[segment, bucket]
            for bucket in buckets_in_window(now_s)
            if (segment, bucket) in tops
        ]

    def _roll_up(self, segments: Sequence[Segment], buckets: Sequence[int], now_s: float) -> RollUp:
        written = 0
        for bucket in buckets:
            topped = [segment for segment, own in self._memory.tops if own == bucket]
            for segment in dict.fromkeys([*segments, *topped]):
                if not self._keep():
                    return RollUp(RollUpOutcome.LEASE_LOST, written)
                self._memory.tops[segment, bucket] = self._top(segment, bucket, now_s)
                written += 1
        return RollUp(RollUpOutcome.DONE, written)

    def _top(self, segment: Segment, bucket: int, now_s: float) -> BucketTop:
        total = Counter(self._memory.live.get((segment, bucket), Counter()))
        for (_, loaded_bucket), load in self._memory.loads.items():
            if loaded_bucket == bucket:
                total.update(load.get(segment, Counter()))
        top = top_of(total)
        return BucketTop(
            bucket=bucket,
            keys=item_keys([item_id for item_id, _ in top]),
            counts=np.array([count for _, count in top], dtype=np.uint64),
            rolled_at_s=now_s,
        )

    def _acquire(self) -> bool:
        now_s = self._wall_s()
        with self._memory.lock:
            if self._memory.held_until_s >= now_s and self._memory.holder != self._worker:
                return False
            self._memory.holder = self._worker
            self._memory.held_until_s = now_s + LEASE_S
            return True

    def _keep(self) -> bool:
        now_s = self._wall_s()
        with self._memory.lock:
            if self._memory.holder != self._worker:
                return False
            self._memory.held_until_s = now_s + LEASE_S
            return True

    def _release(self) -> None:
        with self._memory.lock:
            if self._memory.holder == self._worker:
                self._memory.held_until_s = 0.0


def _counter(counts: BucketCounts) -> Counter[str]:
    return Counter(dict(zip(counts.item_ids, counts.counts, strict=True)))
