"""Spans from the JSON of Jaeger's `/api/traces`, the only one of older versions."""

from collections.abc import Iterable, Iterator
from typing import get_args

from meshctl.traces.loose_json import Object, hex_id, member, objects, text, whole
from meshctl.traces.span import Event, Kind, Scalar, Span, Status, is_span_id, is_trace_id

_KINDS: tuple[Kind, ...] = get_args(Kind)
# Tags that are fields of a span in OTLP.
_FIELDS = {"span.kind", "error", "otel.status_code", "otel.status_description"}


def spans_of(answer: object) -> Iterator[Span]:
    """Yield the spans of every trace of an answer; those without usable ids are left out."""
    for trace in objects(answer, "data"):
        processes = member(trace, "processes")
        for span in objects(trace, "spans"):
            process = member(processes, text(span, "processID"))
            if is_trace_id(_trace_id(span)) and is_span_id(_span_id(span)):
                yield _span(span, process)


def _span(span: Object, process: Object) -> Span:
    tags = _values(objects(span, "tags"))
    start_ns = whole(span.get("startTime")) * 1000
    instance = _values(objects(process, "tags")).get("service.instance.id")
    return Span(
        trace_id=_trace_id(span),
        span_id=_span_id(span),
        parent_id=next(_references(span, "CHILD_OF"), ""),
        service=text(process, "serviceName") or "unknown_service",
        instance=str(instance or ""),
        name=text(span, "operationName"),
        kind=_kind(str(tags.get("span.kind"))),
        start_ns=start_ns,
        end_ns=start_ns + whole(span.get("duration")) * 1000,
        status=_status(tags),
        status_message=str(tags.get("otel.status_description") or ""),
        attributes={key: value for key, value in tags.items() if key not in _FIELDS},
        events=tuple(_events(objects(span, "logs"))),
        links=tuple(_links(span)),
    )


def _trace_id(span: Object) -> str:
    # Jaeger leaves out zeros at the beginning.
    return _padded(hex_id(span, "traceID"), 32)


def _span_id(span: Object) -> str:
    return _padded(hex_id(span, "spanID"), 16)


def _padded(found: str, digits: int) -> str:
    return found.zfill(digits) if found else ""


def _references(span: Object, kind: str) -> Iterator[str]:
    for reference in objects(span, "references"):
        if text(reference, "refType") == kind and _trace_id(reference) == _trace_id(span):
            yield _span_id(reference)


def _links(span: Object) -> Iterator[str]:
    for reference in objects(span, "references"):
        if _trace_id(reference) != _trace_id(span) and is_trace_id(_trace_id(reference)):
            yield _trace_id(reference)


def _kind(name: str) -> Kind:
    return next((kind for kind in _KINDS if kind == name), "unspecified")


def _status(tags: dict[str, Scalar]) -> Status:
    if tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR":
        return "error"
    return "ok" if tags.get("otel.status_code") == "OK" else "unset"


def _events(logs: Iterable[Object]) -> Iterator[Event]:
    for log in logs:
        fields = _values(objects(log, "fields"))
        yield Event(str(fields.pop("event", "")), whole(log.get("timestamp")) * 1000, fields)


def _values(pairs: Iterable[Object]) -> dict[str, Scalar]:
    return {text(pair, "key"): _value(pair.get("value")) for pair in pairs}


def _value(value: object) -> Scalar:
    return value if isinstance(value, str | bool | int | float) else str(value)
