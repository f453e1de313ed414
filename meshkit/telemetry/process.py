"""Traces: one recorder a process, W3C context in and out, spans exported only when asked.

Calls always have real ids, exported or not, since answers carry them. Traces are exported over
OTLP/gRPC when OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, else
written to files when RECMESH_TRACE_DIR is. The exporter, its batches and the sampler obey
OpenTelemetry's own variables; what is kept beside the sampled traces, see `TracingSettings`.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from meshkit.config import ConfigError, read_environment, setting
from meshkit.telemetry import metrics
from meshkit.telemetry.recorder import (
    DEFAULT_KEPT_PER_S,
    DEFAULT_SLOW_SHARE,
    KeepBudget,
    KeepRules,
    Recorder,
)
from meshkit.telemetry.recording import current
from meshkit.telemetry.span_losses import batching
from meshkit.telemetry.trace_files import TraceFileExporter

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DEFAULT_SHUTDOWN_S = 1.0  # the SDK would wait 30 s for a collector that is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """What of this process's traces is exported where, read from RECMESH_* variables."""

    trace_dir: Path | None = None
    """Directory for trace files where no collector is named; unset: no files."""
    slow_share: float = setting(default=DEFAULT_SLOW_SHARE, at_least=0, at_most=1)
    """Share of a call's time after which its trace is kept though it is not sampled."""
    kept_per_s: float = setting(default=DEFAULT_KEPT_PER_S, at_least=0, at_most=1000)
    """Unsampled traces that are kept at most, a second."""


@dataclass(frozen=True, slots=True)
class TraceIds:
    """Ids of the current span in lower-case hex, 32 and 16 digits; all zeros outside a span."""

    trace_id: str
    span_id: str


class _Process:
    """What `setup` made."""

    recorder = Recorder()
    processor: SpanProcessor | None = None


def setup(
    service_name: str,
    service_instance_id: str,
    environ: Mapping[str, str] = os.environ,
    *,
    keeps_served: bool = False,
) -> Recorder:
    """Make the process's recorder and meter; call it once, after the process was spawned.

    With `keeps_served`, calls that are degraded, failed or slow are exported though not sampled.
    Raises `ConfigError` for a bad setting, and when OTEL_SDK_DISABLED is set.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        raise ConfigError(
            "OTEL_SDK_DISABLED='true': answers carry ids of spans; "
            "unset it and set OTEL_TRACES_SAMPLER=always_off to record nothing"
        )
    settings = read_environment(TracingSettings, environ)
    metrics.setup(service_name, service_instance_id, environ)
    _Process.processor = _processor(settings, service_name, environ)
    names = {SERVICE_NAME: service_name, SERVICE_INSTANCE_ID: service_instance_id}
    _Process.recorder = Recorder(
        Resource.create(names),
        # The SDK reads its variables for a provider only, which is not needed otherwise.
        TracerProvider(shutdown_on_exit=False).sampler,
        _Process.processor,
        KeepRules(KeepBudget(settings.kept_per_s), settings.slow_share),
        keeps_served=keeps_served,
    )
    return _Process.recorder


def process_recorder() -> Recorder:
    """Return the process's recorder; before `setup`, one that exports nothing."""
    return _Process.recorder


def shutdown(timeout_s: float = DEFAULT_SHUTDOWN_S) -> None:
    """Export what is left and stop, giving up after `timeout_s` on a collector that is gone."""
    ends_s = time.monotonic() + timeout_s
    stops = [metrics.meter().shutdown]
    if _Process.processor is not None:
        stops.append(_Process.processor.shutdown)
    threads = [threading.Thread(target=stop, name="telemetry-stop", daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(ends_s - time.monotonic(), 0.0))


def current_ids() -> TraceIds:
    """Return the ids of the current call's span, or of what else is current."""
    recording = current()
    if recording.trace_id:
        return TraceIds(f"{recording.trace_id:032x}", f"{recording.own.span_id:016x}")
    span = trace.get_current_span().get_span_context()
    return TraceIds(trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id))


def _processor(
    settings: TracingSettings, service_name: str, environ: Mapping[str, str]
) -> SpanProcessor | None:
    if any(environ.get(variable) for variable in ENDPOINT_VARIABLES):
        return batching(OTLPSpanExporter(), metrics.meter())
    if settings.trace_dir is not None:
        return batching(TraceFileExporter(settings.trace_dir, service_name), metrics.meter())
    return None
