"""What every process of the naive mesh does alike: tracing by contrib, health, serving."""

import asyncio
import signal
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcAioInstrumentorServer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.peers.config import PeerConfig, announced


def trace_calls(service: str) -> None:
    """Trace every call, sampled and exported as the standard OTEL_* variables say.

    Call it before a server or a channel is made.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
    trace.set_tracer_provider(provider)
    GrpcAioInstrumentorServer().instrument()  # type: ignore[no-untyped-call]  # contrib's own
    GrpcAioInstrumentorClient().instrument()  # type: ignore[no-untyped-call]  # contrib's own


async def serve(config: PeerConfig, register: Callable[[grpc.aio.Server], None]) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server()
    register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    host, _, _ = config.listen.rpartition(":")
    port = server.add_insecure_port(config.listen)
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with announced(config.address_file, f"{host}:{port}"):
        await stopped.wait()
    await server.stop(1.0)
