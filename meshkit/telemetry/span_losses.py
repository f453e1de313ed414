"""Batches of spans on their way out, with those counted that never get there.

The SDK's exporter tries a batch four times and encodes it anew for each, every 12 s while a
collector is down. So after a batch that failed those of the next seconds are given up at once,
of twice as many seconds each time, up to `LONGEST_PAUSE_S`.
"""

import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from meshkit.telemetry.instruments import one_of
from meshkit.telemetry.metrics import Meter

QUEUE_FULL = "queue_full"
EXPORT_FAILED = "export_failed"
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 40.0
"""How long a collector that is there again may go unnoticed."""


def batching(
    exporter: SpanExporter, meter: Meter, monotonic: Callable[[], float] = time.monotonic
) -> BatchSpanProcessor:
    """Return the SDK's processor over `exporter`, with what it loses in `meter`."""
    signal = one_of("recmesh.telemetry.signal", ["spans"])
    reason = one_of("recmesh.telemetry.reason", [QUEUE_FULL, EXPORT_FAILED])
    dropped = meter.counter(
        "recmesh.telemetry.dropped", "{record}", "Records that were not exported", (signal, reason)
    )

    def lose(count: int, why: str) -> None:
        dropped.add(count, "spans", why)

    processor = BatchSpanProcessor(_WatchedExporter(exporter, lose, monotonic))
    # The SDK says so only in metrics of its own, which are experimental and off by default.
    processor._batch_processor._metrics = _QueueLosses(lose)
    return processor


class _QueueLosses:
    """Hears of what a queue does, in the place of the SDK's own metrics."""

    def __init__(self, lose: Callable[[int, str], None]) -> None:
        self._lose = lose

    def register_queue_size(self, get_queue_size: Callable[[], int]) -> None:
        """Ignore it."""

    def drop_items(self, count: int, error_type: str = QUEUE_FULL) -> None:
        self._lose(count, QUEUE_FULL if error_type == QUEUE_FULL else EXPORT_FAILED)

    def finish_items(self, count: int) -> None:
        """Ignore it."""


class _WatchedExporter(SpanExporter):
    """Counts the spans of batches that could not be exported, and pauses after one."""

    def __init__(
        self,
        exporter: SpanExporter,
        lose: Callable[[int, str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._exporter = exporter
        self._lose = lose
        self._monotonic = monotonic
        self._pause_s = 0.0
        self._resumes_s = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        is_tried = self._monotonic() >= self._resumes_s
        try:
            if is_tried:
                result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self._pause_s = 0.0
            else:
                self._lose(len(spans), EXPORT_FAILED)
                if is_tried:
                    self._rest()
        return result

    def _rest(self) -> None:
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._resumes_s = self._monotonic() + self._pause_s

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
