"""Batches of spans on their way out, with those counted that never get there.

The SDK's exporter tries a collector that is not there over and over, each time through a new
channel: in five processes 12 ms of processor time a second. So after a batch that failed, those
of the next `PAUSE_S` seconds are given up at once.
"""

import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from meshkit.telemetry.instruments import one_of
from meshkit.telemetry.metrics import Meter

QUEUE_FULL = "queue_full"
EXPORT_FAILED = "export_failed"
PAUSE_S = 10.0
"""Without a try after one that failed: how late a collector that comes back is noticed, at most."""


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
    """Counts the spans of batches that could not be exported, and rests after one."""

    def __init__(
        self,
        exporter: SpanExporter,
        lose: Callable[[int, str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._exporter = exporter
        self._lose = lose
        self._monotonic = monotonic
        self._rests_until_s = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        is_exported = False
        try:
            if self._monotonic() >= self._rests_until_s:
                is_exported = self._exporter.export(spans) is SpanExportResult.SUCCESS
                if not is_exported:
                    self._rest()
        except Exception:
            self._rest()
            raise
        finally:
            if not is_exported:
                self._lose(len(spans), EXPORT_FAILED)
        return SpanExportResult.SUCCESS if is_exported else SpanExportResult.FAILURE

    def _rest(self) -> None:
        self._rests_until_s = self._monotonic() + PAUSE_S

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
