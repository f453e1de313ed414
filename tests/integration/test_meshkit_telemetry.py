"""Spans leave the process over OTLP, and a collector that is gone holds nothing up."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.integration.meshkit_children import DEADLINE_S, ROOT, child, free_port
from tests.integration.meshkit_echo import ECHO

PROGRAM = """
from meshkit import telemetry
telemetry.setup("echo", "echo-1")
with telemetry.process_recorder().own("work"):
    print(telemetry.current_ids().trace_id)
telemetry.shutdown(timeout_s={timeout_s})
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  gRPC's own names
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def trace_id_of_run(timeout_s: float, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(timeout_s=timeout_s)],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=28,  # the SDK's own shutdown takes 30 s
    )
    return done.stdout.strip()


def test_spans_are_exported_with_the_names_of_their_process() -> None:
    collector = Collector()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
        endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()

        trace_id = trace_id_of_run(DEADLINE_S, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        server.stop(0).wait()

    (sent,) = collector.requests[0].resource_spans
    (span,) = sent.scope_spans[0].spans
    names = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert (span.name, span.trace_id.hex()) == ("work", trace_id)
    assert (names["service.name"], names["service.instance.id"]) == ("echo", "echo-1")


def test_without_a_collector_traces_are_written_to_files(tmp_path: Path) -> None:
    trace_id = trace_id_of_run(DEADLINE_S, RECMESH_TRACE_DIR=str(tmp_path / "traces"))

    (file,) = (tmp_path / "traces").iterdir()
    (sent,) = json.loads(file.read_text())["resourceSpans"]
    (span,) = sent["scopeSpans"][0]["spans"]
    assert re.fullmatch(r"echo-\d+\.jsonl", file.name)
    assert (span["name"], span["traceId"]) == ("work", trace_id)


@pytest.mark.parametrize(
    ("sampler", "argument", "exported"),
    [("always_off", "", 0), ("always_on", "", 1), ("parentbased_traceidratio", "0", 0)],
)
def test_the_standard_sampler_variables_work(
    sampler: str, argument: str, exported: int, tmp_path: Path
) -> None:
    settings = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}

    trace_id_of_run(DEADLINE_S, RECMESH_TRACE_DIR=str(tmp_path), **settings)

    assert len(list(tmp_path.iterdir())) == exported


@contextmanager
def gone() -> Iterator[str]:
    """Nobody listens where the collector should be."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def silent() -> Iterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def stuck() -> Iterator[str]:
    """A collector that takes spans and never says so."""
    release = threading.Event()

    class Stuck(Collector):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's own name
            release.wait()
            return super().Export(request, context)

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Stuck(), server)  # type: ignore[no-untyped-call]  # generated without types
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            release.set()
            server.stop(0).wait()


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("collector", [gone, silent, stuck])
def test_a_collector_in_trouble_fails_no_call_and_holds_up_no_end(
    collector: Callable[[], AbstractContextManager[str]], kind: str, tmp_path: Path
) -> None:
    with collector() as endpoint:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",  # so long would an end wait that had no limit
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_BSP_MAX_QUEUE_SIZE": "20",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
        }
        with child(tmp_path, kind, **settings) as server:
            server.wait_until_serving()
            with grpc.insecure_channel(server.address) as channel:
                echo: Any = channel.unary_unary(ECHO)
                answers = {echo(b"question", timeout=DEADLINE_S) for _ in range(100)}
            server.process.terminate()
            status = server.exit_status()

    assert answers == {b"a:question"}
    assert status == 0, server.errors.read_text()
