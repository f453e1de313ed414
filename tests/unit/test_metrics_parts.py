"""What servers, bundles and exporters count, whoever calls them with whatever."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from meshkit.bundles import Bundle, BundleError
from meshkit.bundles.manifest import Manifest
from meshkit.config import ConfigError
from meshkit.telemetry.bundle_metrics import BundleMetrics
from meshkit.telemetry.instruments import OTHER
from meshkit.telemetry.server_metrics import MAX_METHODS, ServerMetrics
from meshkit.telemetry.span_losses import batching
from tests.unit.metric_reading import ReadableMeter, Reading

METHOD = "echo.v1.EchoService/Echo"
DEADLINE_S = 60.0


def totals(reading: Reading, name: str) -> list[tuple[dict[str, Any], int]]:
    return [(dict(attributes), value) for attributes, value in reading.series(name).items()]


def test_a_served_call_is_counted_by_method_and_outcome() -> None:
    meter = ReadableMeter()
    metrics = ServerMetrics(meter)

    metrics.ended(METHOD, "OK", None, 0.01)
    metrics.ended(METHOD, "INTERNAL", "INTERNAL", 0.01)

    system = {"rpc.system.name": "grpc", "rpc.method": METHOD}
    assert totals(meter.read(), "rpc.server.call.duration") == [
        ({**system, "rpc.response.status_code": "OK"}, 1),
        ({**system, "rpc.response.status_code": "INTERNAL", "error.type": "INTERNAL"}, 1),
    ]


def test_refused_and_repeated_calls_are_counted_apart_from_zero_on() -> None:
    meter = ReadableMeter()
    metrics = ServerMetrics(meter)

    metrics.ended(METHOD, "OK", None, 0.01)
    at_first = [point.value for point in meter.read().points("recmesh.calls.shed")]
    metrics.ended(METHOD, "RESOURCE_EXHAUSTED", None, 0.01)
    metrics.retried(METHOD)

    assert at_first == [0]
    assert totals(meter.read(), "recmesh.calls.shed") == [({"rpc.method": METHOD}, 1)]
    assert totals(meter.read(), "recmesh.calls.retried") == [({"rpc.method": METHOD}, 1)]


def test_no_number_of_methods_and_codes_makes_more_series_than_a_server_has() -> None:
    meter = ReadableMeter()
    metrics = ServerMetrics(meter)

    for number in range(3000):
        metrics.ended(f"evil.Service/{number}", f"CODE_{number}", f"CODE_{number}", 0.01)
        metrics.ended(f"evil.Service/{number}", "RESOURCE_EXHAUSTED", None, 0.01)
        metrics.retried(f"evil.Service/{number}")

    reading = meter.read()
    for name in ("recmesh.calls.shed", "recmesh.calls.retried"):
        assert len(reading.points(name)) == MAX_METHODS + 1
    durations = reading.points("rpc.server.call.duration")
    assert len(durations) == 2 * (MAX_METHODS + 1)
    codes = {point.attributes["rpc.response.status_code"] for point in durations}
    assert codes == {"RESOURCE_EXHAUSTED", OTHER}


def bundle(version: str, made_at: datetime) -> Bundle:
    manifest = Manifest(
        format_version=1,
        version=version,
        created_at=made_at.isoformat(),
        content_sha256="",
        parent=None,
        files={},
        facts={},
    )
    return Bundle(Path(), manifest)


class World:
    """A process that serves one of its bundles, of which each is a minute older than the next."""

    def __init__(self) -> None:
        self.meter = ReadableMeter()
        self.served: str | None = None
        self.faults: dict[str, Exception] = {}
        self._metrics = BundleMetrics(self.meter, lambda: self.served)

    def load(self, version: str) -> str:
        return self._metrics.watched(self._open, self._load)(version)

    def ages(self) -> list[tuple[dict[str, Any], int]]:
        return totals(self.meter.read(), "recmesh.bundle.age")

    def _open(self, version: str) -> Bundle:
        return bundle(version, datetime.now(UTC) - timedelta(seconds=60))

    def _load(self, opened: Bundle) -> str:
        if opened.version in self.faults:
            raise self.faults[opened.version]
        return f"content of {opened.version}"


def test_only_the_bundle_served_now_has_an_age() -> None:
    world = World()
    for number in range(100):
        assert world.load(f"v{number}") == f"content of v{number}"
    before = world.ages()

    world.served = "v7"
    ((first, age_s),) = world.ages()
    world.served = "v99"
    ((second, _),) = world.ages()

    assert before == []
    assert first == {"recmesh.bundle.version": "v7"}
    assert 60 <= age_s < 60 + DEADLINE_S
    assert second == {"recmesh.bundle.version": "v99"}


def test_a_bundle_that_cannot_be_loaded_counts_as_refused() -> None:
    world = World()
    world.faults = {"v1": BundleError("broken"), "v2": ConfigError("no such endpoint")}

    for version, fault in world.faults.items():
        with pytest.raises(type(fault)):
            world.load(version)

    assert totals(world.meter.read(), "recmesh.bundle.refused") == [({}, 1)]


class Exporter(SpanExporter):
    """Answers as it is told."""

    def __init__(self, result: SpanExportResult | Exception) -> None:
        self.result = result
        self.batches = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.batches += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        pass


def span() -> ReadableSpan:
    return ReadableSpan("work", SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))


def stop(processor: BatchSpanProcessor) -> None:
    processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK's own


def dropped(meter: ReadableMeter, reason: str) -> int:
    found = meter.read().points("recmesh.telemetry.dropped")
    return sum(
        point.value for point in found if point.attributes["recmesh.telemetry.reason"] == reason
    )


def test_spans_that_find_the_queue_full_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    meter = ReadableMeter()
    processor = batching(Exporter(SpanExportResult.SUCCESS), meter)
    # The thread that empties the queue waits for the same lock as a flush.
    with processor._batch_processor._export_lock:
        for _ in range(10):
            processor.on_end(span())
        lost = dropped(meter, "queue_full")
    stop(processor)

    assert lost == 6
    assert dropped(meter, "export_failed") == 0


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("gone")])
def test_spans_of_a_batch_that_fails_are_counted(result: SpanExportResult | Exception) -> None:
    meter = ReadableMeter()
    processor = batching(Exporter(result), meter)
    for _ in range(3):
        processor.on_end(span())

    processor.force_flush()
    stop(processor)

    assert dropped(meter, "export_failed") == 3


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("gone")])
def test_a_collector_that_is_gone_is_tried_less_and_less_until_it_is_there(
    result: SpanExportResult | Exception,
) -> None:
    meter, now_s, exporter = ReadableMeter(), [100.0], Exporter(result)
    processor = batching(exporter, meter, lambda: now_s[0])

    def tries(seconds: int) -> list[int]:
        """Export a span a second; return in which of the seconds it was tried."""
        tried = []
        for second in range(seconds):
            before = exporter.batches
            processor.on_end(span())
            processor.force_flush()
            tried += [second] * (exporter.batches - before)
            now_s[0] += 1.0
        return tried

    while_gone = tries(120)
    exporter.result = SpanExportResult.SUCCESS
    once_there = tries(40)
    stop(processor)

    assert while_gone == [0, 5, 15, 35, 75, 115]
    assert once_there == list(range(35, 40))
    assert dropped(meter, "export_failed") == 155


def test_spans_that_arrive_are_not_counted() -> None:
    meter = ReadableMeter()
    processor = batching(Exporter(SpanExportResult.SUCCESS), meter)
    processor.on_end(span())
    stop(processor)

    assert totals(meter.read(), "recmesh.telemetry.dropped") == []
