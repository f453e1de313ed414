"""A trace as one JSON object, for programs."""

from collections.abc import Mapping, Sequence

from meshctl.traces.span import Event, Scalar, Span, Value
from meshctl.traces.summary import summary_of
from meshctl.traces.tree import Trace


def json_object(trace: Trace, missing: Sequence[str]) -> dict[str, object]:
    """Return the trace with its spans in the order of the waterfall.

    Times are in ms from the start of the answer; a span of another clock may
    start before it.
    """
    summary = summary_of(trace)
    start_ns = trace.head.start_ns
    return {
        "trace_id": trace.trace_id,
        "duration_ms": summary.total_ms,
        "tier": summary.tier or None,
        "degraded": summary.is_degraded,
        "kept": summary.kept or None,
        "bundle_version": summary.bundle or None,
        "services": list(summary.services),
        "complete": not missing,
        "missing": list(missing),
        "spans": [_span(span, start_ns) for span in trace.spans],
    }


def _span(span: Span, start_ns: int) -> dict[str, object]:
    return {
        "service": span.service,
        "instance": span.instance,
        "name": span.name,
        "kind": span.kind,
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "start_offset_ms": (span.start_ns - start_ns) / 1e6,
        "duration_ms": span.duration_ms,
        "status": span.status,
        "status_message": span.status_message,
        "attributes": _values(span.attributes),
        "events": [_event(event, start_ns) for event in span.events],
        "links": list(span.links),
    }


def _event(event: Event, start_ns: int) -> dict[str, object]:
    offset_ms = (event.time_ns - start_ns) / 1e6
    return {"name": event.name, "offset_ms": offset_ms, "attributes": _values(event.attributes)}


def _values(attributes: Mapping[str, Value]) -> dict[str, Value]:
    # JSON has no NaN and no infinity.
    return {
        key: tuple(map(_finite, value)) if isinstance(value, tuple) else _finite(value)
        for key, value in attributes.items()
    }


def _finite(value: Scalar) -> Scalar:
    is_odd = isinstance(value, float) and (value != value or abs(value) == float("inf"))  # noqa: PLR0124 - NaN
    return str(value) if is_odd else value
