"""Trending from a log directory: counts listeners, fills the counters and rolls them up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from pipeline.event_log import EventLog, read_event_log
from pipeline.trending_counts import (
    DEFAULT_LIMITS,
    SegmentLimits,
    bucket_counts,
    count_trends,
    plays_in_window,
)
from services.candidates.domain.trending import (
    GLOBAL,
    WINDOW_S,
    BucketCounts,
    RollUp,
    RollUpOutcome,
    Segment,
    TrendingStore,
    buckets_in_window,
    item_id_fault,
)

DEFAULT_LOADER = "log"


class EmptyWindowError(Exception):
    """A log has nothing to count; the message says which log and when."""


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What a log holds in one window."""

    events: int
    """Events inside the window."""
    unusable_events: int
    """Of those, left out: an item id that is empty, too long or holds a control character."""
    counts: Sequence[BucketCounts]
    """Everywhere first, then the segments with most listening; buckets oldest first."""

    @property
    def segments(self) -> list[Segment]:
        """The segments of `counts`, in their order."""
        return list(dict.fromkeys(one.segment for one in self.counts))


@dataclass(frozen=True, slots=True)
class TrendingLoad:
    """What a load did."""

    window: WindowCounts
    roll_up: RollUp


def load_trending(
    log_dir: Path,
    store: TrendingStore,
    *,
    now_s: float,
    limits: SegmentLimits = DEFAULT_LIMITS,
    loader: str = DEFAULT_LOADER,
    shows_progress: bool = False,
) -> TrendingLoad:
    """Fill a store's counters with the window of a log that ends at `now_s`, and roll them up.

    Raises EmptyWindowError before anything is written, LogDirectoryError and LogError for a bad
    log directory, and TrendingStoreError.
    """
    window = count_window(read_event_log(log_dir), now_s=now_s, limits=limits)
    if window.events == window.unusable_events:
        raise EmptyWindowError(
            f"{log_dir} has no usable event in the {WINDOW_S // 86_400} days before "
            f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M} UTC"
        )
    roll_up = fill_store(
        store, window.counts, now_s=now_s, loader=loader, shows_progress=shows_progress
    )
    return TrendingLoad(window, roll_up)


def count_window(
    log: EventLog, *, now_s: float, limits: SegmentLimits = DEFAULT_LIMITS
) -> WindowCounts:
    """Count the listeners of the window that ends at `now_s` (unix seconds): `count_trends`."""
    catalogue, as_of_s = log.catalogue, int(now_s)
    plays, _ = plays_in_window(log.events, order=log.order, as_of_s=as_of_s)
    played = np.unique(plays.rows)
    faults = [item_id_fault(catalogue.texts.item_id(row)) for row in played.tolist()]
    unusable = played[[fault is not None for fault in faults]]
    usable = plays.where(~np.isin(plays.rows, unusable))
    trends = count_trends(
        usable, catalogue.traits.genres, order=log.order, as_of_s=as_of_s, limits=limits
    )
    return WindowCounts(
        events=len(plays),
        unusable_events=len(plays) - len(usable),
        counts=bucket_counts(trends, catalogue.texts, catalogue.genre_names.names()),
    )


def fill_store(
    store: TrendingStore,
    counts: Sequence[BucketCounts],
    *,
    now_s: float,
    loader: str = DEFAULT_LOADER,
    shows_progress: bool = False,
) -> RollUp:
    """Put counts into a store and roll up their segments over the window that ends at `now_s`.

    Whatever `loader` put into the window before is replaced, also in buckets and segments without
    counts now. The progress bar goes to the terminal and disappears at the end. Raises
    TrendingStoreError.
    """
    buckets = buckets_in_window(now_s)
    counts = [*_empty_buckets(counts, buckets), *counts]
    segments = list(dict.fromkeys(one.segment for one in counts))
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not shows_progress) as bar:
        task = bar.add_task("writing trending counts", total=None)
        store.put_counts(counts, loader=loader)
        bar.update(task, description="rolling trends up", total=len(buckets), completed=0)
        return _roll_up(store, segments, buckets, now_s, lambda: bar.advance(task))


def _empty_buckets(counts: Sequence[BucketCounts], buckets: range) -> list[BucketCounts]:
    """Return empty counts, everywhere, for the buckets in which nothing was counted."""
    filled = {one.bucket for one in counts if one.segment == GLOBAL}
    return [BucketCounts(GLOBAL, bucket, [], []) for bucket in buckets if bucket not in filled]


def _roll_up(
    store: TrendingStore,
    segments: Sequence[Segment],
    buckets: range,
    now_s: float,
    advance: Callable[[], None],
) -> RollUp:
    """Roll up bucket by bucket, for the progress bar; stop at the first that is not ours."""
    written = 0
    for bucket in buckets:
        result = store.roll_up(segments, [bucket], now_s=now_s)
        written += result.written
        if result.outcome is not RollUpOutcome.DONE:
            return RollUp(result.outcome, written)
        advance()
    return RollUp(RollUpOutcome.DONE, written)
