"""A collector that keeps the spans it is sent, and writes a trace as an indented tree."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

VARY = ("recmesh.kept", "recmesh.source.data_age")
"""Attributes that may differ between two traces of the same request."""


@dataclass(frozen=True, slots=True)
class Received:
    """One span, and whose it is."""

    service: str
    instance: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return {each.key: _plain(each.value) for each in self.span.attributes}

    @property
    def facts(self) -> dict[str, Any]:
        """What two traces of the same request have in common beside their shape."""
        told = {name: fact for name, fact in self.attributes.items() if name not in VARY}
        events = [event.name for event in self.span.events]
        return {"service": self.service, "kind": self.span.kind, "events": events, **told}


class SpanCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Answers `Export`."""

    def __init__(self) -> None:
        self._received: list[Received] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  gRPC's own names
        self._received += [
            Received(names["service.name"], names["service.instance.id"], span)
            for resource in request.resource_spans
            for names in [{each.key: _plain(each.value) for each in resource.resource.attributes}]
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Received]:
        return list(self._received)

    def trace(self, trace_id: str) -> list[Received]:
        """Return the spans of a trace in the order in which they began."""
        spans = [each for each in self._received if each.span.trace_id.hex() == trace_id]
        return sorted(spans, key=lambda each: each.span.start_time_unix_nano)

    def traces_of(self, service: str) -> set[str]:
        """Return the ids of the traces in which a service has a span."""
        return {each.span.trace_id.hex() for each in self._received if each.service == service}


@contextmanager
def collecting() -> Iterator[tuple[SpanCollector, str]]:
    """Serve until the block ends; yields the collector and its endpoint."""
    collector = SpanCollector()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
        endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield collector, endpoint
        server.stop(0).wait()


def tree_of(spans: list[Received], root_parent: str) -> str:
    """Write the spans below `root_parent`, a line each; orphans and open spans stand out."""
    children: dict[str, list[Received]] = defaultdict(list)
    for each in spans:
        children[each.span.parent_span_id.hex()].append(each)
    lines = list(_lines(children, root_parent, ""))
    known = {root_parent, *(each.span.span_id.hex() for each in spans)}
    lines += [
        f"ORPHAN {_line(each)}" for parent in children.keys() - known for each in children[parent]
    ]
    return "\n".join(lines)


def _lines(children: dict[str, list[Received]], parent: str, indent: str) -> Iterator[str]:
    for each in sorted(children[parent], key=_place):
        yield indent + _line(each)
        yield from _lines(children, each.span.span_id.hex(), indent + "  ")


def _place(received: Received) -> tuple[str, int]:
    """Calls at the same time stand in the order of their names, all else in that of time."""
    told = received.attributes
    return str(told.get("recmesh.leaf", "")), int(told.get("recmesh.attempt", 0))


def _line(received: Received) -> str:
    span, told = received.span, received.attributes
    words = [received.service, span.name.rpartition("/")[2]]
    if span.kind == Span.SPAN_KIND_CLIENT:
        words = [received.service, f"-> {told['recmesh.leaf']}"]
        if told["recmesh.attempt"] != 1:
            words.append("again")
    if "rpc.response.status_code" in told:
        words.append(told["rpc.response.status_code"])
    if span.status.code == Status.STATUS_CODE_ERROR:
        words.append("ERROR")
    if "recmesh.previous_attempts" in told:
        words.append("retried")
    if span.end_time_unix_nano < span.start_time_unix_nano:
        words.append("OPEN")
    return " ".join(words)


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind)
