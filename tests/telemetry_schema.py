"""The telemetry schema, what a mesh emitted, and where the two differ."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

SCHEMA_FILE = Path(__file__).parents[1] / "services" / "telemetry.json"

Schema = Mapping[str, Any]
Attributes = Mapping[str, Any]

STANDARD_VALUES: Mapping[str, Collection[str]] = {
    "gRPC status": frozenset(code.name for code in grpc.StatusCode)
}
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "int": (int,),
    "double": (float,),
    "string[]": (list,),
}


def read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    return schema


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    kind: str
    service: str
    trace_id: bytes
    span_id: bytes
    attributes: Attributes
    events: Sequence[Event] = ()
    links: Sequence[bytes] = ()
    """Span ids that it links to."""


@dataclass(frozen=True, slots=True)
class Point:
    """One series of a metric."""

    name: str
    kind: str
    unit: str
    service: str
    attributes: Attributes
    is_reached: bool
    """Something was counted in it; a gauge always is."""
    exemplars: Sequence[bytes] = ()
    """Trace ids."""


@dataclass(slots=True)
class Emitted:
    """Everything that was received."""

    resources: list[Attributes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    def take_spans(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        for of_process in request.resource_spans:
            resource = _attributes(of_process.resource.attributes)
            self.resources.append(resource)
            self.spans += [
                _span(span, resource) for scope in of_process.scope_spans for span in scope.spans
            ]

    def take_metrics(self, request: metrics_service_pb2.ExportMetricsServiceRequest) -> None:
        for of_process in request.resource_metrics:
            resource = _attributes(of_process.resource.attributes)
            self.resources.append(resource)
            for scope in of_process.scope_metrics:
                for metric in scope.metrics:
                    self.points += _points(metric, resource)


def unknown(schema: Schema, emitted: Emitted) -> set[str]:
    """Return every way in which what was emitted is not as the schema has it."""
    return {
        *_faults_of_resources(schema, emitted),
        *_faults_of_spans(schema, emitted),
        *_faults_of_metrics(schema, emitted),
    }


def never_emitted(schema: Schema, emitted: Emitted) -> set[str]:
    """Return every entry of the schema that nothing was emitted for."""
    seen = _values_seen(emitted)
    return {
        *_unreached_spans(schema, emitted),
        *_unreached_metrics(schema, emitted),
        *_missing("attribute", schema["attributes"], seen),
        *(
            f"{name}={value!r}"
            for name, rule in schema["attributes"].items()
            for value in rule.get("values", ())
            if value not in seen.get(name, ())
        ),
    }


def _faults_of_resources(schema: Schema, emitted: Emitted) -> Iterator[str]:
    for resource in emitted.resources:
        yield from _faults_of("resource", resource, schema["resource"], schema["resource"])


def _faults_of_spans(schema: Schema, emitted: Emitted) -> Iterator[str]:
    entries = {(each["kind"], each["name"]): each for each in schema["spans"]}
    events = {each["name"]: each for each in schema["events"]}
    names = {span.span_id: span.name for span in emitted.spans}
    for span in emitted.spans:
        where = f"span {span.kind} {span.name}"
        entry = entries.get((span.kind, span.name))
        if entry is None or span.service not in entry["services"]:
            yield f"{where}: of {span.service}"
            continue
        yield from _faults_of_entry(where, span.attributes, entry, schema)
        for event in span.events:
            if event.name not in entry["events"]:
                yield f"{where}: event {event.name}"
            else:
                said = events[event.name]
                yield from _faults_of_entry(f"event {event.name}", event.attributes, said, schema)
        for link in span.links:
            # What it links to may have been lost on its way here.
            if link in names and names[link] not in entry["links"]:
                yield f"{where}: link to {names[link]}"


def _faults_of_metrics(schema: Schema, emitted: Emitted) -> Iterator[str]:
    entries = {each["name"]: each for each in schema["metrics"]}
    for point in emitted.points:
        where = f"metric {point.name}"
        entry = entries.get(point.name)
        if entry is None or point.service not in entry["services"]:
            yield f"{where}: of {point.service}"
            continue
        if (point.kind, point.unit) != (entry["type"], entry["unit"]):
            yield f"{where}: a {point.kind} in {point.unit}"
        known = {name: schema["attributes"][name] for name in entry["attributes"]}
        yield from _faults_of(where, point.attributes, known, ())


def _faults_of_entry(
    where: str, attributes: Attributes, entry: Mapping[str, Any], schema: Schema
) -> Iterator[str]:
    names = [*entry["attributes"], *entry["may_have"]]
    known = {name: schema["attributes"][name] for name in names}
    yield from _faults_of(where, attributes, known, entry["attributes"])


def _faults_of(
    where: str, attributes: Attributes, known: Mapping[str, Any], always: Iterable[str]
) -> Iterator[str]:
    for name in always:
        if name not in attributes:
            yield f"{where}: without {name}"
    for name, value in attributes.items():
        if name not in known:
            yield f"{where}: attribute {name}"
        elif not _is_allowed(value, known[name]):
            yield f"{where}: {name}={value!r}"


def _is_allowed(value: Any, rule: Mapping[str, Any]) -> bool:
    if type(value) not in TYPES[rule["type"]]:  # a bool is an int to Python only
        return False
    if "values" in rule:
        return value in rule["values"]
    if "one_of" in rule:
        return value in STANDARD_VALUES[rule["one_of"]]
    parts = value if isinstance(value, list) else [value]
    return "pattern" not in rule or all(re.fullmatch(rule["pattern"], part) for part in parts)


def _unreached_spans(schema: Schema, emitted: Emitted) -> Iterator[str]:
    names = {span.span_id: span.name for span in emitted.spans}
    for entry in schema["spans"]:
        where = f"span {entry['kind']} {entry['name']}"
        spans = [span for span in emitted.spans if (span.kind, span.name) == _id(entry)]
        yield from _missing(f"{where}: of", entry["services"], (span.service for span in spans))
        yield from _missing_attributes(where, entry, [span.attributes for span in spans])
        events = [event for span in spans for event in span.events]
        yield from _missing(f"{where}: event", entry["events"], (event.name for event in events))
        links = (names.get(link, "") for span in spans for link in span.links)
        yield from _missing(f"{where}: link to", entry["links"], links)
    for entry in schema["events"]:
        found = [
            event.attributes
            for span in emitted.spans
            for event in span.events
            if event.name == entry["name"]
        ]
        yield from _missing_attributes(f"event {entry['name']}", entry, found)


def _unreached_metrics(schema: Schema, emitted: Emitted) -> Iterator[str]:
    for entry in schema["metrics"]:
        where = f"metric {entry['name']}"
        points = [point for point in emitted.points if point.name == entry["name"]]
        yield from _missing(f"{where}: of", entry["services"], (point.service for point in points))
        reached = [point.attributes for point in points if point.is_reached]
        if not reached:
            yield where
        yield from _missing_attributes(where, entry, reached)


def _missing_attributes(
    where: str, entry: Mapping[str, Any], found: Sequence[Attributes]
) -> Iterator[str]:
    names = [*entry["attributes"], *entry.get("may_have", ())]
    seen = {name for attributes in found for name in attributes}
    yield from _missing(f"{where}: attribute", names, seen)


def _missing(what: str, wanted: Iterable[str], seen: Iterable[str]) -> Iterator[str]:
    yield from (f"{what} {name}" for name in set(wanted) - set(seen))


def _values_seen(emitted: Emitted) -> dict[str, list[Any]]:
    """Return the values of every attribute; of metrics only where something was counted."""
    seen: dict[str, list[Any]] = defaultdict(list)
    for attributes in (
        *(span.attributes for span in emitted.spans),
        *(event.attributes for span in emitted.spans for event in span.events),
        *(point.attributes for point in emitted.points if point.is_reached),
    ):
        for name, value in attributes.items():
            if value not in seen[name]:
                seen[name].append(value)
    return seen


def _id(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["kind"], entry["name"]


def _span(span: trace_pb2.Span, resource: Attributes) -> Span:
    return Span(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=str(resource.get("service.name")),
        trace_id=span.trace_id,
        span_id=span.span_id,
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes)) for event in span.events],
        links=[link.span_id for link in span.links],
    )


def _points(metric: metrics_pb2.Metric, resource: Attributes) -> Iterator[Point]:
    held = metric.WhichOneof("data")
    assert held is not None
    data = getattr(metric, held)
    kind = "counter" if held == "sum" and data.is_monotonic else held
    for point in data.data_points:
        yield Point(
            name=metric.name,
            kind=kind,
            unit=metric.unit,
            service=str(resource.get("service.name")),
            attributes=_attributes(point.attributes),
            is_reached=kind != "counter" or point.as_int > 0,
            exemplars=[each.trace_id for each in point.exemplars],
        )


def _attributes(pairs: Iterable[common_pb2.KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: common_pb2.AnyValue) -> Any:
    held = value.WhichOneof("value")
    if held == "array_value":
        return [_value(each) for each in value.array_value.values]
    return None if held is None else getattr(value, held)
