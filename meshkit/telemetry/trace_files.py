"""Traces as files: OTLP/JSON, an ExportTraceServiceRequest a line, for a mesh without a collector.

A process writes `<service.name>-<pid>.jsonl`; a file that is full becomes `.jsonl.1`, in place of
the one before it. A line is written at once, so that a reader never sees half of one.
"""

import base64
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Size at which a file is put aside: some 10,000 answers."""

_IDS = ("traceId", "spanId", "parentSpanId")

_log = logging.getLogger(__name__)


class TraceFileExporter(SpanExporter):
    """Appends spans to this process's file; the directory and the file are made when needed."""

    def __init__(
        self, directory: Path, service_name: str, max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        self._path = directory / f"{service_name}-{os.getpid()}.jsonl"
        self._max_file_bytes = max_file_bytes
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line; a disk that fails is logged once, until it works again."""
        try:
            self._append(line_of(spans))
        except OSError as error:
            if not self._is_failing:
                _log.warning("traces cannot be written to %s: %s", self._path, error)
            self._is_failing = True
            return SpanExportResult.FAILURE
        self._is_failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: every line is written when `export` returns."""
        del timeout_millis
        return True

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line)
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if size >= self._max_file_bytes:
            self._path.replace(self._path.with_suffix(".jsonl.1"))


def line_of(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the spans as one line of OTLP/JSON, with ids in lower-case hex as it asks for."""
    request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for span in _spans_of(request):
        _write_ids_in_hex([span, *span.get("links", ())])
    return json.dumps(request, separators=(",", ":")).encode() + b"\n"


def _spans_of(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in request.get("resourceSpans", ()):
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def _write_ids_in_hex(parts: Iterable[dict[str, Any]]) -> None:
    for part in parts:
        for key in _IDS:
            if key in part:
                part[key] = base64.b64decode(part[key]).hex()
