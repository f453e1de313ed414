"""Spans from OTLP/JSON: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding."""

from collections.abc import Iterable, Iterator
from typing import get_args

from meshctl.traces.loose_json import Object, hex_id, member, objects, parsed, text, whole
from meshctl.traces.span import Event, Kind, Scalar, Span, Status, Value, is_span_id, is_trace_id

_KINDS: tuple[Kind, ...] = get_args(Kind)
_STATUSES: tuple[Status, ...] = get_args(Status)


def spans_from(content: bytes) -> list[Span]:
    """Return the spans of one ExportTraceServiceRequest; those without usable ids are left out.

    Raises ValueError when it is no JSON.
    """
    return list(spans_of(parsed(content)))


def spans_of(request: object) -> Iterator[Span]:
    """Yield the spans of a request that is parsed already."""
    for of_resource in objects(request, "resourceSpans", "resource_spans"):
        resource = _attributes(objects(member(of_resource, "resource"), "attributes"))
        service = str(resource.get("service.name") or "unknown_service")
        instance = str(resource.get("service.instance.id") or "")
        for of_scope in objects(of_resource, "scopeSpans", "scope_spans"):
            for span in objects(of_scope, "spans"):
                if is_trace_id(hex_id(span, "traceId")) and is_span_id(hex_id(span, "spanId")):
                    yield _span(span, service, instance)


def _span(span: Object, service: str, instance: str) -> Span:
    status = member(span, "status")
    return Span(
        trace_id=hex_id(span, "traceId"),
        span_id=hex_id(span, "spanId"),
        parent_id=hex_id(span, "parentSpanId"),
        service=service,
        instance=instance,
        name=text(span, "name"),
        kind=_KINDS[_code(span.get("kind"), "SPAN_KIND_", _KINDS)],
        start_ns=whole(span.get("startTimeUnixNano")),
        end_ns=whole(span.get("endTimeUnixNano")),
        status=_STATUSES[_code(status.get("code"), "STATUS_CODE_", _STATUSES)],
        status_message=text(status, "message"),
        attributes=_attributes(objects(span, "attributes")),
        events=tuple(_event(event) for event in objects(span, "events")),
        links=tuple(
            filter(is_trace_id, (hex_id(link, "traceId") for link in objects(span, "links")))
        ),
    )


def _event(event: Object) -> Event:
    return Event(
        text(event, "name"),
        whole(event.get("timeUnixNano")),
        _attributes(objects(event, "attributes")),
    )


def _code(value: object, prefix: str, names: tuple[str, ...]) -> int:
    """Return an enum's number; OTLP wants numbers, protobuf's own JSON has names."""
    if isinstance(value, str):
        name = value.removeprefix(prefix).lower()
        return names.index(name) if name in names else 0
    number = whole(value)
    return number if 0 <= number < len(names) else 0


def _attributes(pairs: Iterable[Object]) -> dict[str, Value]:
    return {text(pair, "key"): _value(member(pair, "value")) for pair in pairs}


def _value(value: Object) -> Value:
    if "arrayValue" in value:
        return tuple(_scalar(each) for each in objects(member(value, "arrayValue"), "values"))
    return _scalar(value)


def _scalar(value: Object) -> Scalar:
    for kind, found in value.items():
        if kind == "intValue":
            return whole(found)
        # A map, bytes, a list in a list: there to be looked at.
        return found if isinstance(found, str | bool | int | float) else str(found)
    return None
