"""Histories for requests that must not wait: few threads, a bounded queue, a cache.

How this works. boto3 blocks, so reads go to threads of their own, and a request waits for its read
no longer than it may: the read goes on, and what it brings is there for the user's next request.
Requests for one user share a read. When every thread is busy and the queue is full, a look-up is
refused at once; so a DynamoDB that hangs costs a few threads and no request more than its wait.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from meshkit import dynamodb
from meshkit.telemetry import recording
from meshkit.telemetry.metrics import Meter
from services import attributes
from services.gateway.adapters.history_cache import Found, HistoryCache
from services.gateway.adapters.history_metrics import (
    CACHED,
    READ,
    REFUSED,
    SHARED,
    HistoryMetrics,
)
from services.gateway.adapters.leaf_log import ANSWERS, LeafLog
from services.gateway.adapters.packed_history import PackedHistoryError
from services.gateway.domain.failures import RULES, Failure
from services.gateway.domain.stored_history import StoredHistory

_log = logging.getLogger(__name__)

FAILURES: tuple[tuple[type[Exception], Failure], ...] = (
    (dynamodb.DynamodbUnavailableError, Failure.UNAVAILABLE),
    (dynamodb.DynamodbThrottledError, Failure.FULL),
    (dynamodb.DynamodbMisconfiguredError, Failure.REFUSED),
)
"""What a read's error means to the failure policy; every other is `Failure.BROKEN`."""

Read = Callable[[int], StoredHistory | None]
_Reading = asyncio.Future[Found]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much reading there may be."""

    threads: int = 4
    """Reads at a time: 1 ms of processor each."""
    waiting: int = 16
    """Reads that wait for a thread; a 5 ms read in 4 threads clears them in 20 ms."""


class HistoryReads:
    """Looks histories up by user key; for one event loop. `read` blocks, and runs in threads."""

    def __init__(
        self,
        read: Read,
        cache: HistoryCache,
        limits: ReadLimits,
        metrics: HistoryMetrics | None = None,
    ) -> None:
        self._read = read
        self._cache = cache
        self._limits = limits
        self._metrics = metrics or HistoryMetrics(Meter())
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="history")
        self._going_on: dict[int, _Reading] = {}
        self._log = LeafLog("history")
        self._is_closed = False

    async def look_up(self, user_key: int, timeout_s: float) -> Found:
        """Return what is stored of a user, within `timeout_s`. Never raises."""
        cached = self._cache.get(user_key)
        if cached is not None:
            self._metrics.looked_up(CACHED)
            return cached
        if timeout_s <= 0:
            return Found(None, Failure.NO_TIME)
        reading, how = self._going_on.get(user_key), SHARED
        if reading is None:
            reading, how = self._begin(user_key)
        self._metrics.looked_up(how)
        return await _noted(reading, how, timeout_s)

    async def warm(self, limit_s: float) -> None:
        """Have every thread read once, so that code is loaded and connections are open."""
        loop = asyncio.get_running_loop()
        reads = [
            loop.run_in_executor(self._pool, self._outcome, 0) for _ in range(self._limits.threads)
        ]
        await asyncio.wait(reads, timeout=limit_s)

    def close(self) -> None:
        """Begin no more reads; those that go on end by their own timeout."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, user_key: int) -> tuple[_Reading | None, str]:
        """Begin a read, unless there are too many."""
        most = self._limits.threads + self._limits.waiting
        if len(self._going_on) >= most or self._is_closed:
            return None, REFUSED
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._pool, self._outcome, user_key)
        self._going_on[user_key] = reading
        reading.add_done_callback(lambda done: self._end(user_key, done))
        return reading, READ

    def _end(self, user_key: int, reading: _Reading) -> None:
        """Hold what a read brought, also when nobody waits for it any more."""
        del self._going_on[user_key]
        if not reading.cancelled() and reading.result().failure in _LASTING:
            self._cache.put(user_key, reading.result())

    def _outcome(self, user_key: int) -> Found:
        """Read in this thread. Never raises."""
        started_s = time.monotonic()
        try:
            found = Found(self._read(user_key))
        except PackedHistoryError as exc:
            _log.warning("a history is not used: %s", exc)
            found = Found(None, Failure.BROKEN)
        except dynamodb.DynamodbError as exc:
            self._log.note(str(exc))
            return Found(None, _failure_of(exc))
        except Exception:  # noqa: BLE001  an answer without history beats none
            _log.exception("a history is not used")
            return Found(None, Failure.BROKEN)
        finally:
            self._metrics.read(time.monotonic() - started_s)
        self._log.note(ANSWERS)
        return found


async def _noted(reading: _Reading | None, how: str, timeout_s: float) -> Found:
    """Wait for a read, and note that in the request's trace."""
    if reading is None:
        return Found(None, Failure.FULL)
    request = recording.current()
    note = request.begin("history.read", SpanKind.INTERNAL, {attributes.HISTORY_LOOKUP: how})
    found = await _within(reading, timeout_s)
    if note is not None:
        note.end_ns = time.perf_counter_ns()
        if found.failure is not None:
            note.attributes[attributes.FAILURE] = found.failure.name
            note.fail(RULES[found.failure].status.name)
        request.let_go()
    return found


async def _within(reading: _Reading, timeout_s: float) -> Found:
    """Return what a read brings, or that it is late; it goes on then."""
    await asyncio.wait({reading}, timeout=timeout_s)
    if not reading.done() or reading.cancelled():
        return Found(None, Failure.LATE)
    return reading.result()


def _failure_of(error: dynamodb.DynamodbError) -> Failure:
    return next((failure for kind, failure in FAILURES if isinstance(error, kind)), Failure.BROKEN)


_LASTING = (None, Failure.BROKEN)
"""What another read would find as well."""
