"""Spans leave the process over OTLP, and a collector that is gone holds nothing up."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.integration.meshkit_children import DEADLINE_S, ROOT, free_port

PROGRAM = """
from meshkit import telemetry
telemetry.setup("echo", "echo-1")
with telemetry.recorder().own("work"):
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
        timeout=15,  # the SDK's own shutdown takes 30 s
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


def test_a_collector_that_is_gone_does_not_hold_up_the_end_of_the_process() -> None:
    trace_id = trace_id_of_run(
        0.1,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_TIMEOUT="600",
    )

    assert set(trace_id) != {"0"}
