"""Traces: one provider a process, W3C context in and out, spans exported only when asked.

Spans always have real ids, exported or not, since answers carry them. They are exported over
OTLP/gRPC when OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set; the
exporter, the batches and the sampler obey OpenTelemetry's own variables.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshkit.config import ConfigError

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DEFAULT_SHUTDOWN_S = 1.0  # the SDK would wait 30 s for a collector that is gone

# Trace context only: baggage would carry whatever a caller sends through the whole mesh.
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class TraceIds:
    """Ids of the current span in lower-case hex, 32 and 16 digits; all zeros outside a span."""

    trace_id: str
    span_id: str


def setup(
    service_name: str, service_instance_id: str, environ: Mapping[str, str] = os.environ
) -> TracerProvider:
    """Make the process's tracer provider; call it once, after the process was spawned.

    Raises `ConfigError` when OTEL_SDK_DISABLED is set: spans would have no ids.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        raise ConfigError(
            "OTEL_SDK_DISABLED='true': answers carry ids of spans; "
            "unset it and set OTEL_TRACES_SAMPLER=always_off to record nothing"
        )
    names = {SERVICE_NAME: service_name, SERVICE_INSTANCE_ID: service_instance_id}
    # Our `shutdown` is bounded in time, the SDK's exit hook is not.
    provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
    if any(environ.get(variable) for variable in ENDPOINT_VARIABLES):
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def shutdown(timeout_s: float = DEFAULT_SHUTDOWN_S) -> None:
    """Export what is left and stop, giving up after `timeout_s` on a collector that is gone."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        flushing = threading.Thread(target=provider.shutdown, name="telemetry-stop", daemon=True)
        flushing.start()
        flushing.join(timeout_s)


def inject() -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries the current span to an outgoing call."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return tuple(carrier.items())


def extract(metadata: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """Return the trace context that incoming call metadata carries; an empty one without."""
    texts = {key: value for key, value in metadata or () if isinstance(value, str)}
    return _PROPAGATOR.extract(texts)


def current_ids() -> TraceIds:
    """Return the ids of the current span."""
    span = trace.get_current_span().get_span_context()
    return TraceIds(trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id))
