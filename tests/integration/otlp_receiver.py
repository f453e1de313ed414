"""A real OTLP/gRPC receiver of traces and metrics; it can refuse spans, or keep senders waiting."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2,
    metrics_service_pb2_grpc,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.telemetry_schema import Emitted


class OtlpReceiver:
    """Keeps what it is sent, in the words of the schema; safe between threads."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.emitted = Emitted()
        self.refused = 0
        self._lock = threading.Lock()
        self._is_refusing = False
        self._taking = threading.Event()
        self._taking.set()

    @contextmanager
    def refusing_spans(self) -> Iterator[None]:
        """Refuse spans, for good, while the block runs."""
        self._is_refusing = True
        try:
            yield
        finally:
            self._is_refusing = False

    @contextmanager
    def holding_spans(self) -> Iterator[None]:
        """Keep who sends spans waiting until the block ends."""
        self._taking.clear()
        try:
            yield
        finally:
            self._taking.set()

    def take_spans(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._taking.wait()
        if self._is_refusing:
            self.refused += 1
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        with self._lock:
            self.emitted.take_spans(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(self, request: Any, _context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.emitted.take_metrics(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()

    @contextmanager
    def serving(self) -> Iterator["OtlpReceiver"]:
        """Serve on loopback until the block ends."""
        with ThreadPoolExecutor(16) as pool:
            server = grpc.server(pool)
            trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(self), server)  # type: ignore[no-untyped-call]  # generated without types
            metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), server)  # type: ignore[no-untyped-call]
            self.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            try:
                yield self
            finally:
                self._taking.set()
                server.stop(grace=1).wait()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's own name
        return self._receiver.take_spans(request, context)


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's own name
        return self._receiver.take_metrics(request, context)
