"""Traces as processes write them to files: OTLP/JSON, an ExportTraceServiceRequest a line."""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER_TRACE = "1bf7651916cd43dd8448eb211c80319d"
GATEWAY = "00000000000000a1"
"""The span of the gateway in `write_answer`."""
CALL = "00000000000000a3"
"""Its call of the leaf."""
ANSWER = "recmesh.gateway.v1.RecommendationService/Recommend"
LEAF = "recmesh.candidates.v1.CandidateService/Generate"
GRPC = {"rpc.system.name": "grpc"}
INTERNAL, SERVER, CLIENT = 1, 2, 3
UNSET, OK, ERROR = 0, 1, 2

JsonSpan = dict[str, object]


def span(  # noqa: PLR0913  a span has many fields
    span_id: str,
    parent_id: str = "",
    name: str = "stage",
    *,
    kind: int = INTERNAL,
    ms: tuple[float, float] = (0.0, 1.0),
    trace_id: str = TRACE,
    status: int = UNSET,
    attributes: Mapping[str, object] | None = None,
    began_ns: int | None = None,
) -> JsonSpan:
    """Return a span that lasts from `ms[0]` to `ms[1]` after `began_ns` (by default: 1 s ago)."""
    origin_ns = time.time_ns() - 10**9 if began_ns is None else began_ns
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(origin_ns + int(ms[0] * 1e6)),
        "endTimeUnixNano": str(origin_ns + int(ms[1] * 1e6)),
        "status": {"code": status} if status else {},
        "attributes": [pair(key, value) for key, value in (attributes or {}).items()],
    }


def pair(key: str, value: object) -> dict[str, object]:
    """Return an attribute; whole numbers are texts in OTLP/JSON."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    return {"key": key, "value": {"stringValue": value}}


def request(service: str, *spans: JsonSpan) -> dict[str, object]:
    """Return what a service exports."""
    resource = {"attributes": [pair("service.name", service), pair("service.instance.id", "7")]}
    scope = {"scope": {}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def line(service: str, *spans: JsonSpan) -> bytes:
    """Return the line that a service writes."""
    return json.dumps(request(service, *spans)).encode() + b"\n"


def gateway_spans(trace_id: str = TRACE, began_ns: int | None = None) -> list[JsonSpan]:
    """Return what the gateway records of an answer for which it calls one leaf."""
    facts = {
        "recmesh.tier": "PERSONAL",
        "recmesh.degraded": False,
        "recmesh.kept": "sampled",
        "recmesh.bundle.version": "v7",
    }
    call = {**GRPC, "recmesh.leaf": "ann", "recmesh.source.status": "OK"}
    at = partial(span, trace_id=trace_id, began_ns=began_ns or time.time_ns() - 10**9)
    caller, fan_out = "00000000000000ff", "00000000000000a2"
    return [
        at(GATEWAY, caller, ANSWER, kind=SERVER, ms=(0, 40), attributes=facts),
        at(fan_out, GATEWAY, "fan_out", ms=(1, 20)),
        at(CALL, fan_out, LEAF, kind=CLIENT, ms=(2, 12), attributes=call),
        at("00000000000000a4", GATEWAY, "rank", ms=(20, 39)),
    ]


def leaf_spans(trace_id: str = TRACE, began_ns: int | None = None) -> list[JsonSpan]:
    """Return what the leaf records of that call."""
    at = partial(span, trace_id=trace_id, began_ns=began_ns or time.time_ns() - 10**9)
    found = {"recmesh.candidates": 120}
    return [
        at("00000000000000b1", CALL, LEAF, kind=SERVER, ms=(3, 11)),
        at("00000000000000b2", "00000000000000b1", "retrieve", ms=(4, 10), attributes=found),
    ]


def write_answer(directory: Path, trace_id: str = TRACE, began_ns: int | None = None) -> None:
    """Add a whole answer to the files of a gateway and of a leaf."""
    directory.mkdir(parents=True, exist_ok=True)
    spans = gateway_spans(trace_id, began_ns), leaf_spans(trace_id, began_ns)
    for service, of_service in zip(("gateway", "candidates-ann"), spans, strict=True):
        with (directory / f"{service}-17.jsonl").open("ab") as file:
            file.write(line(service, *of_service))
