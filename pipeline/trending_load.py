"""Trending from a log directory: counts listeners, fills the counters and rolls them up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from pipeline.log_directory import EVENTS_FILE, ITEMS_FILE, LogSummary, read_log_summary
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    MAX_ITEM_ID_BYTES,
    MAX_SEGMENT_PART_BYTES,
    TOP_ITEMS,
    WINDOW_S,
    BucketCounts,
    RollUp,
    RollUpOutcome,
    Segment,
    TrendingStore,
    bucket_of,
    buckets_in_window,
)

DEFAULT_LOADER = "log"


@dataclass(frozen=True, slots=True)
class TrendingLimits:
    """What is worth a segment of its own; the global one always is."""

    markets: int = 50
    """Markets with the most listening in the window."""
    genres: int = 50
    """Genres with the most listening in the window."""
    segments: int = 64
    """Segments beside the global one, those with the most listening first. Each is 29 rows to roll
    up and a query every half minute: 64 load in 8 s and read in 3 s on the embedded engine."""
    least_count: int = 100
    """Listening that a segment needs in the window; below that an order is chance."""


DEFAULT_LIMITS = TrendingLimits()


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
    """The global segment first, with every bucket of the window, also those without counts; then
    the others by listening. Buckets oldest first, items by count, ties by item id."""

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
    limits: TrendingLimits = DEFAULT_LIMITS,
    loader: str = DEFAULT_LOADER,
    shows_progress: bool = False,
) -> TrendingLoad:
    """Fill a store's counters with the window of a log that ends at `now_s`, and roll them up.

    Raises EmptyWindowError before anything is written, LogDirectoryError for a bad log directory,
    and TrendingStoreError.
    """
    window = count_window(log_dir, now_s=now_s, limits=limits)
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
    log_dir: Path, *, now_s: float, limits: TrendingLimits = DEFAULT_LIMITS
) -> WindowCounts:
    """Count the listening of the window that ends at `now_s` (unix seconds) by segment and bucket.

    A count is the number of distinct users who had the item in the bucket (on 30Music 15 % better
    than plays: one listener on repeat is no trend). A log without times is one bucket, that of
    `now_s`. A genre is taken from the items table; an item of several genres counts in each.

    Raises LogDirectoryError for a bad log directory.
    """
    summary = read_log_summary(log_dir)
    with duckdb.connect() as db:
        events, unusable = _read_window(db, log_dir, summary, now_s)
        _count_segments(db, limits)
        return WindowCounts(events, unusable, _fetch_counts(db, buckets_in_window(now_s)))


def fill_store(
    store: TrendingStore,
    counts: Sequence[BucketCounts],
    *,
    now_s: float,
    loader: str = DEFAULT_LOADER,
    shows_progress: bool = False,
) -> RollUp:
    """Put counts into a store and roll up their segments over the window that ends at `now_s`.

    `loader` names what is replaced by a later load. The progress bar goes to the terminal and
    disappears at the end. Raises TrendingStoreError.
    """
    segments = list(dict.fromkeys(one.segment for one in counts))
    buckets = buckets_in_window(now_s)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not shows_progress) as bar:
        task = bar.add_task("writing trending counts", total=None)
        store.put_counts(counts, loader=loader)
        bar.update(task, description="rolling trends up", total=len(buckets), completed=0)
        return _roll_up(store, segments, buckets, now_s, lambda: bar.advance(task))


def _read_window(
    db: duckdb.DuckDBPyConnection, log_dir: Path, summary: LogSummary, now_s: float
) -> tuple[int, int]:
    """Create `listening` (market, bucket, item_id, n) and `item_genres`; return event counts.

    A market of null is every market; a user counts once there, wherever the listening was.
    """
    has_times = summary.order == "time"
    db.execute(
        _READ_WINDOW,
        {
            "events": str(log_dir / EVENTS_FILE),
            "has_times": has_times,
            "bucket_s": BUCKET_S,
            "now_bucket": bucket_of(now_s),
            "since_s": now_s - WINDOW_S,
            "now_s": now_s,
            "longest_id": MAX_ITEM_ID_BYTES,
        },
    )
    for statement in (_COUNT_LISTENERS, _READ_GENRES):
        parameters = {"items": str(log_dir / ITEMS_FILE)} if "$items" in statement else None
        db.execute(statement, parameters)
    events, unusable = db.execute(
        "SELECT count(*), count(*) FILTER (NOT is_usable) FROM plays"
    ).fetchall()[0]
    return int(events), int(unusable)


_READ_WINDOW = """
CREATE TABLE plays AS
SELECT user_id, item_id, nullif(market, '') AS market,
       CASE WHEN $has_times THEN floor(timestamp / $bucket_s)::BIGINT
            ELSE $now_bucket::BIGINT END AS bucket,
       coalesce(octet_length(encode(item_id)) BETWEEN 1 AND $longest_id
                AND NOT regexp_matches(item_id, '[\\x00-\\x1f]'), false) AS is_usable
FROM read_parquet($events)
WHERE NOT $has_times OR (timestamp > $since_s AND timestamp <= $now_s)
"""
_COUNT_LISTENERS = """
CREATE TABLE listening AS
SELECT market, bucket, item_id, count(DISTINCT user_id) AS n
FROM plays WHERE is_usable
GROUP BY GROUPING SETS ((market, bucket, item_id), (bucket, item_id))
HAVING market IS NOT NULL OR grouping(market) = 1
"""
_READ_GENRES = """
CREATE TABLE item_genres AS
SELECT DISTINCT item_id, genre
FROM (SELECT item_id, unnest(genres) AS genre FROM read_parquet($items))
WHERE genre IS NOT NULL
"""


def _count_segments(db: duckdb.DuckDBPyConnection, limits: TrendingLimits) -> None:
    """Create `segment_counts` (market, genre, total, bucket, item_id, n): tops, limited."""
    db.execute(
        _COUNT_SEGMENTS,
        {
            "markets": limits.markets,
            "genres": limits.genres,
            "segments": limits.segments,
            "least": limits.least_count,
            "longest_part": MAX_SEGMENT_PART_BYTES,
            "top": TOP_ITEMS,
        },
    )


_COUNT_SEGMENTS = """
CREATE TABLE segment_counts AS
WITH
top_markets AS (
    SELECT market FROM listening
    WHERE market IS NOT NULL AND octet_length(encode(market)) <= $longest_part
    GROUP BY market ORDER BY sum(n) DESC, market LIMIT $markets
),
top_genres AS (
    SELECT genre FROM listening JOIN item_genres USING (item_id)
    WHERE market IS NULL AND octet_length(encode(genre)) BETWEEN 1 AND $longest_part
    GROUP BY genre ORDER BY sum(n) DESC, genre LIMIT $genres
),
by_market AS (
    FROM listening WHERE market IS NULL OR market IN (FROM top_markets)
),
all_counts AS (
    SELECT market, NULL AS genre, bucket, item_id, n FROM by_market
    UNION ALL
    SELECT market, genre, bucket, item_id, n FROM by_market JOIN item_genres USING (item_id)
    WHERE genre IN (FROM top_genres)
),
totals AS (
    SELECT market, genre, sum(n) AS total FROM all_counts GROUP BY market, genre
),
kept AS (
    (FROM totals WHERE market IS NULL AND genre IS NULL)
    UNION ALL
    (FROM totals WHERE (market IS NOT NULL OR genre IS NOT NULL) AND total >= $least
     ORDER BY total DESC, market NULLS FIRST, genre NULLS FIRST LIMIT $segments)
)
SELECT a.market, a.genre, k.total, a.bucket, a.item_id, a.n
FROM all_counts a JOIN kept k
  ON a.market IS NOT DISTINCT FROM k.market AND a.genre IS NOT DISTINCT FROM k.genre
QUALIFY row_number() OVER (
    PARTITION BY a.market, a.genre, a.bucket ORDER BY a.n DESC, a.item_id) <= $top
"""


def _fetch_counts(db: duckdb.DuckDBPyConnection, buckets: range) -> list[BucketCounts]:
    """Return the counts by segment and bucket, the global segment first.

    The global segment names every bucket of the window, also without counts, so that a load
    replaces what an earlier one left there.
    """
    columns = db.execute(
        """
        SELECT coalesce(market, '') AS market, coalesce(genre, '') AS genre, bucket, item_id, n
        FROM segment_counts
        ORDER BY market <> '' OR genre <> '', total DESC, market, genre, bucket, n DESC, item_id
        """
    ).fetchnumpy()
    counts = [_bucket_counts(columns, span) for span in _spans(columns)]
    filled = {one.bucket for one in counts if one.segment == GLOBAL}
    empty = [BucketCounts(GLOBAL, bucket, [], []) for bucket in buckets if bucket not in filled]
    return empty + counts


def _spans(columns: dict[str, NDArray[Any]]) -> list[slice]:
    """Return where each segment and bucket lies in columns that are sorted by them."""
    length = len(columns["bucket"])
    if length == 0:
        return []
    changes = np.zeros(length, dtype=np.bool_)
    for name in ("market", "genre", "bucket"):
        changes[1:] |= np.asarray(columns[name][1:] != columns[name][:-1], dtype=np.bool_)
    edges = [0, *np.flatnonzero(changes).tolist(), length]
    return [slice(start, end) for start, end in pairwise(edges)]


def _bucket_counts(columns: dict[str, NDArray[Any]], span: slice) -> BucketCounts:
    return BucketCounts(
        segment=Segment(
            columns["market"][span.start] or None, columns["genre"][span.start] or None
        ),
        bucket=int(columns["bucket"][span.start]),
        item_ids=columns["item_id"][span].tolist(),
        counts=columns["n"][span].tolist(),
    )


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
