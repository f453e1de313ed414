"""Keeps the trending snapshot fresh in the background, so that no request waits for the store."""

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Self

from opentelemetry.trace import SpanContext

from meshkit import telemetry
from meshkit.telemetry import recording
from meshkit.telemetry.metrics import Meter
from meshkit.telemetry.recorder import Recorder
from services import attributes
from services.candidates.adapters.trending_metrics import TrendingMetrics
from services.candidates.domain.trending import (
    EMPTY_TOP,
    GLOBAL,
    NO_SNAPSHOT,
    Segment,
    SegmentTop,
    TrendingRowInvalidError,
    TrendingSnapshot,
    TrendingStore,
    rank_segment,
)

REFRESH_S = 30.0
"""Pause between two full reads in seconds: buckets are six hours long."""
MAX_SEGMENTS = 256
"""Segments kept fresh, the least lately wanted given up first: 24 KB each at most."""
MAX_NEWS_READS = MAX_SEGMENTS
"""Segments read out of turn between two full reads; further ones wait for the next. What callers
ask for must not decide how much we read."""
INTEREST_S = 600.0
"""How long a segment is kept fresh after it was last wanted, in seconds."""
FIRST_BACKOFF_S = 1.0
"""Pause after a failed read in seconds; doubled with each further failure."""
MAX_BACKOFF_S = 60.0
"""Longest pause between failing reads in seconds, however long the pause between good ones is: a
failing read asks for no more than a good one, so it need not be rarer."""
MAX_UNREAD_BACKOFF_S = 5.0
"""The same while nothing was ever read, and every caller is told of an error."""
CLOSE_TIMEOUT_S = 3.0
"""How long `close` waits in seconds: by default a read with its retry is over in about one. A
longer one ends by itself, and the thread with it."""

_LOG = logging.getLogger(__name__)


class TrendingRefresher:
    """Reads wanted segments every `refresh_s` in a daemon thread and swaps a snapshot.

    Only segments that the store names are read, and held: callers choose markets, and one that
    nobody counted must cost no read and take no other's place. `store` is this refresher's own.
    `now_s` is the mesh's clock (unix seconds), by which counts decay; `elapsed_s` measures how
    long ago the store answered, and never stands still. What `predecessor` holds is held, and as
    old, until the first read; it must have read the same store by the same clocks. Nothing starts
    before `start`, or the `with` block. All methods may be called from any thread.
    """

    def __init__(
        self,
        store: TrendingStore,
        now_s: Callable[[], float],
        *,
        refresh_s: float = REFRESH_S,
        first_backoff_s: float = FIRST_BACKOFF_S,
        elapsed_s: Callable[[], float] = time.monotonic,
        predecessor: "TrendingRefresher | None" = None,
        metrics: TrendingMetrics | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._store = store
        self._now_s = now_s
        self._elapsed_s = elapsed_s
        self._refresh_s = refresh_s
        self._first_backoff_s = first_backoff_s
        self._metrics = metrics or TrendingMetrics(Meter())
        self._recorder = recorder or telemetry.process_recorder()
        self._held: tuple[TrendingSnapshot, SpanContext | None] = (
            predecessor._held if predecessor else (NO_SNAPSHOT, None)
        )
        self._changed = threading.Condition()
        self._wanted = _wanted_of(self._held[0], elapsed_s())
        self._existing: frozenset[Segment] | None = None
        self._has_news = False
        self._news_reads = 0
        self._is_closed = False
        self._failures = 0
        self._invalid: set[Segment] = set()
        self._thread = threading.Thread(target=self._run, name="trending-refresher", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to read; call once."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading; the last snapshot stays. Without effect when closed already."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def snapshot(self) -> TrendingSnapshot:
        """Return the newest snapshot without waiting; the caller's trace points to its making."""
        snapshot, made_in = self._held
        if made_in is not None:
            recording.current().link(made_in)
        return snapshot

    def age_s(self) -> float | None:
        """Return the seconds since the store was last read in full; None: never yet."""
        return self._held[0].age_s(self._elapsed_s())

    def want(self, segments: Iterable[Segment]) -> None:
        """Note that requests need `segments`; those not held yet are read as soon as possible.

        One that did not exist at the last full read is not noted.
        """
        at_s = self._elapsed_s()
        with self._changed:
            for segment in segments:
                self._note(segment, at_s)
            if self._has_news:
                self._changed.notify_all()

    def _note(self, segment: Segment, at_s: float) -> None:
        if segment == GLOBAL or not self._exists(segment):
            return
        self._has_news |= segment not in self._wanted
        self._wanted[segment] = at_s
        self._wanted.move_to_end(segment)
        if len(self._wanted) >= MAX_SEGMENTS:
            self._wanted.popitem(last=False)

    def _exists(self, segment: Segment) -> bool:
        """Tell what the last full read knew; before the first, anything may exist."""
        return self._existing is None or segment in self._existing

    def _run(self) -> None:
        next_full_s = self._elapsed_s()
        while not self._is_closed:
            is_full = self._elapsed_s() >= next_full_s
            is_read = self._try_read(is_full=is_full)
            if is_full and is_read:
                next_full_s = self._elapsed_s() + self._refresh_s
            self._rest(next_full_s)

    def _rest(self, next_full_s: float) -> None:
        """Wait for the next full read, or for news; after a failure news have to wait as well."""
        with self._changed:
            if self._failures:
                self._changed.wait_for(lambda: self._is_closed, self._backoff_s())
            else:
                pause_s = max(0.0, next_full_s - self._elapsed_s())
                self._changed.wait_for(lambda: self._is_closed or self._may_read_news(), pause_s)

    def _may_read_news(self) -> bool:
        return self._has_news and self._news_reads < MAX_NEWS_READS

    def _try_read(self, *, is_full: bool) -> bool:
        try:
            self._traced_read(is_full=is_full)
        except Exception as exc:  # noqa: BLE001 - this thread must outlive any fault of a store
            self._failures += 1
            if self._failures == 1:
                _LOG.warning("trending is not refreshed until this is mended: %s", exc)
            return False
        if self._failures:
            _LOG.warning("trending is refreshed again after %d failures", self._failures)
            self._failures = 0
        return True

    def _traced_read(self, *, is_full: bool) -> None:
        with self._recorder.own("trending.refresh") as noted:
            noted.note({attributes.IS_FULL: is_full})
            try:
                self._read(is_full=is_full)
            except Exception as exc:
                noted.own.fail(type(exc).__name__, str(exc))
                self._metrics.refreshed(noted.duration_s, has_failed=True)
                raise
            self._metrics.refreshed(noted.duration_s, has_failed=False)
            noted.note({attributes.SEGMENTS: len(self._held[0].segments)})

    def _read(self, *, is_full: bool) -> None:
        """Read all wanted segments, or only those not held yet, and swap the snapshot."""
        began_s = self._elapsed_s()
        held, _ = self._held
        if is_full:
            with recording.stage("trending.read_segments"):
                self._existing = self._store.segments(self._now_s())
            self._news_reads = 0
        wanted = self._take_wanted(began_s)
        segments = {one: top for one, top in held.segments.items() if one in wanted}
        for segment in wanted:
            if self._is_closed:
                return
            if is_full or segment not in segments:
                self._news_reads += not is_full
                segments[segment] = self._read_segment(segment)
        snapshot = TrendingSnapshot(
            MappingProxyType(segments), taken_at_s=began_s if is_full else held.taken_at_s
        )
        noted = recording.current()
        self._held = snapshot, noted.context if noted.is_exported else None

    def _take_wanted(self, at_s: float) -> list[Segment]:
        """Return the segments to hold; forget what nobody wanted for long or does not exist."""
        with self._changed:
            self._has_news = False
            self._wanted = OrderedDict(
                (segment, wanted_s)
                for segment, wanted_s in self._wanted.items()
                if wanted_s >= at_s - INTEREST_S and self._exists(segment)
            )
            return [GLOBAL, *self._wanted]

    def _read_segment(self, segment: Segment) -> SegmentTop:
        """Read and rank one segment; a damaged one is held empty, so that others go on."""
        now_s = self._now_s()
        try:
            with recording.stage("trending.read_top", {attributes.SEGMENT: segment.key}):
                tops = self._store.read_segment(segment, now_s)
        except TrendingRowInvalidError as exc:
            if segment not in self._invalid:
                _LOG.warning("segment left out: %s", exc)
            self._invalid.add(segment)
            return EMPTY_TOP
        self._invalid.discard(segment)
        return rank_segment(tops, now_s)

    def _backoff_s(self) -> float:
        longest_s = backoff_s(
            self._failures,
            first_s=self._first_backoff_s,
            refresh_s=self._refresh_s,
            is_unread=self._held[0].taken_at_s is None,
        )
        # Workers that failed together must not come back together.
        return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def backoff_s(failures: int, *, first_s: float, refresh_s: float, is_unread: bool) -> float:
    """Return the pause in seconds after so many failed reads in a row, 1 or more.

    `first_s` is the one after the first, `refresh_s` the pause between two good reads. `is_unread`:
    there was no good one yet.
    """
    at_most_s = MAX_UNREAD_BACKOFF_S if is_unread else min(MAX_BACKOFF_S, max(refresh_s, first_s))
    return min(at_most_s, first_s * 2.0 ** min(failures - 1, 10))


def _wanted_of(snapshot: TrendingSnapshot, at_s: float) -> OrderedDict[Segment, float]:
    return OrderedDict((segment, at_s) for segment in snapshot.segments if segment != GLOBAL)
