"""Traces in files: valid OTLP/JSON, whole lines, two files at most."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from meshkit.telemetry.trace_files import TraceFileExporter

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
START_NS = 1_780_000_000_123_456_789


def context(span_id: int) -> SpanContext:
    return SpanContext(TRACE_ID, span_id, is_remote=False)


def span(span_id: int = 0xFF) -> ReadableSpan:
    return ReadableSpan(
        "work",
        context(span_id),
        parent=context(0xAB),
        resource=Resource({"service.name": "echo"}),
        attributes={"count": 3, "share": 0.5, "names": ["a", "b"], "is_late": True},
        links=[Link(context(0xCD))],
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, "no"),
        start_time=START_NS,
        end_time=START_NS + 5,
    )


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text().splitlines())


def file_of(directory: Path) -> Path:
    return directory / f"echo-{os.getpid()}.jsonl"


def test_a_line_is_one_request_with_ids_in_hex_and_times_as_text(tmp_path: Path) -> None:
    TraceFileExporter(tmp_path / "traces", "echo").export([span()])

    (line,) = lines_of(file_of(tmp_path / "traces"))
    (written,) = line["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert written["traceId"] == f"{TRACE_ID:032x}"
    assert written["spanId"] == "00000000000000ff"
    assert written["parentSpanId"] == "00000000000000ab"
    assert written["links"][0]["spanId"] == "00000000000000cd"
    assert (written["startTimeUnixNano"], written["endTimeUnixNano"]) == (
        str(START_NS),
        str(START_NS + 5),
    )
    assert (written["kind"], written["status"]) == (2, {"code": 2, "message": "no"})


def test_everything_but_the_ids_is_what_protobuf_reads(tmp_path: Path) -> None:
    TraceFileExporter(tmp_path, "echo").export([span(1), span(2)])

    (line,) = lines_of(file_of(tmp_path))
    request = ParseDict(line, ExportTraceServiceRequest())
    sent = request.resource_spans[0]
    assert sent.resource.attributes[0].value.string_value == "echo"
    assert [each.name for each in sent.scope_spans[0].spans] == ["work", "work"]
    assert {each.key for each in sent.scope_spans[0].spans[0].attributes} == {
        "count",
        "share",
        "names",
        "is_late",
    }


def test_a_full_file_is_put_aside_in_place_of_the_one_before_it(tmp_path: Path) -> None:
    exporter = TraceFileExporter(tmp_path, "echo", max_file_bytes=1_500)

    for span_id in range(1, 12):
        exporter.export([span(span_id)])

    current, aside = file_of(tmp_path), tmp_path / f"echo-{os.getpid()}.jsonl.1"
    assert sorted(tmp_path.iterdir()) == [current, aside]
    (last,) = list(lines_of(current))[-1]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert last["spanId"] == f"{11:016x}"
    assert current.stat().st_size < 1_500
    assert len(list(lines_of(aside))) > 1


def test_a_directory_that_cannot_be_written_is_said_once_and_raises_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    exporter = TraceFileExporter(tmp_path / "file", "echo")

    results = [exporter.export([span()]) for _ in range(3)]

    assert set(results) == {SpanExportResult.FAILURE}
    assert len(caplog.records) == 1
