"""A server in this process whose one method does what a test says, sync or aio."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshkit.admission import Admission, CallPool
from meshkit.interceptors import AioServerInterceptor, SyncServerInterceptor
from meshkit.served_call import CallGate
from meshkit.telemetry.recorder import Recorder

SERVICE = "meshkit.test.v1.ProbeService"
METHOD = f"/{SERVICE}/Do"
DEADLINE_S = 20.0

Behaviour = Callable[[bytes, Any], Any]


@dataclass
class Probe:
    """A running server whose one method does what a test says, and the spans it made."""

    kind: str
    gate: CallGate
    admission: Admission | None = None
    pool: CallPool = field(default_factory=lambda: CallPool(1, max_waiting=10_000))
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    port: int = 0
    channel: Any = None
    behaviour: Behaviour = lambda request, _: request
    decode: Callable[[bytes], Any] = bytes
    encode: Callable[[Any], bytes] = bytes

    def call(self, behaviour: Behaviour, *, request: bytes = b"question", **options: Any) -> bytes:
        self.behaviour = behaviour
        return self.call_again(request, **options)

    def call_again(self, request: bytes = b"question", **options: Any) -> bytes:
        answer: bytes = self.channel.unary_unary(METHOD)(
            request, **{"timeout": DEADLINE_S, **options}
        )
        return answer

    def begin(self, request: bytes = b"question", **options: Any) -> Any:
        """Start a call and return it without its answer."""
        return self.channel.unary_unary(METHOD).future(
            request, **{"timeout": DEADLINE_S, **options}
        )

    def failed_call(self, behaviour: Behaviour, **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(behaviour, **options)
        return caught.value

    def outlived_call(self, behaviour: Behaviour) -> Any:
        """Return the failure of a call whose deadline passed while `behaviour` was at work.

        On a slow machine a short deadline passes before the call is begun: then a longer one may
        do. Spans of calls that were not begun are forgotten.
        """
        begun = threading.Event()

        def noted(request: bytes, context: Any) -> Any:
            begun.set()
            return behaviour(request, context)

        assert self.call(lambda request, _: request)  # from now on there is a connection
        for timeout_s in (0.1, 0.5, 2.0, 8.0):
            wait_until(lambda: self.gate.running == 0)
            self.exporter.clear()
            error = self.failed_call(noted, timeout=timeout_s)
            if begun.is_set():
                return error
        raise AssertionError("no call was begun before its deadline")

    def span(self) -> ReadableSpan:
        """Return the one span; a server may end it just after the caller has its answer."""
        wait_until(lambda: len(self.exporter.get_finished_spans()) == 1)
        return self.exporter.get_finished_spans()[0]

    def methods(self) -> dict[str, Any]:
        def handle(request: bytes, context: Any) -> Any:
            return self.behaviour(request, context)

        async def handle_aio(request: bytes, context: Any) -> Any:
            result = self.behaviour(request, context)
            return await result if asyncio.iscoroutine(result) else result

        def decode(request: bytes) -> Any:
            return self.decode(request)

        def encode(response: Any) -> bytes:
            return self.encode(response)

        chosen = handle if self.kind == "sync" else handle_aio
        return {"Do": grpc.unary_unary_rpc_method_handler(chosen, decode, encode)}


def wait_until(is_so: Callable[[], bool]) -> None:
    expires_at_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < expires_at_s, "waited in vain"
        time.sleep(0.005)


def add_services(server: Any, probe: Probe, checks: Any) -> None:
    """Add the method both ways, as generated code does, beside health and reflection."""
    methods = probe.methods()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_registered_method_handlers(SERVICE, methods)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE,), server)
    probe.port = server.add_insecure_port("127.0.0.1:0")


@contextmanager
def started_sync(probe: Probe, recorder: Recorder) -> Iterator[None]:
    interceptor = SyncServerInterceptor(probe.gate, recorder, probe.pool)
    with probe.pool:
        server = grpc.server(probe.pool, interceptors=[interceptor])
        add_services(server, probe, health.HealthServicer())
        server.start()
        yield
        server.stop(0).wait()


@contextmanager
def started_aio(probe: Probe, recorder: Recorder) -> Iterator[None]:
    started = threading.Event()
    stop: list[Callable[[], object]] = []

    async def live() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        interceptor = AioServerInterceptor(probe.gate, recorder, probe.admission)
        server = grpc.aio.server(interceptors=[interceptor])
        add_services(server, probe, health.aio.HealthServicer())
        await server.start()
        started.set()
        await stopped.wait()
        await server.stop(0)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    assert started.wait(DEADLINE_S)
    yield
    stop[0]()
    thread.join()


@contextmanager
def started(kind: str, gate: CallGate | None = None, **parts: Any) -> Iterator[Probe]:
    """Serve until the block ends; `parts` are an `admission` or a `pool` of the probe's."""
    probe = Probe(kind, gate or CallGate(), **parts)
    recorder = Recorder(processor=SimpleSpanProcessor(probe.exporter))
    start = started_sync if kind == "sync" else started_aio
    with start(probe, recorder):
        probe.channel = grpc.insecure_channel(f"127.0.0.1:{probe.port}")
        yield probe
        probe.channel.close()


def raising(error: BaseException) -> Behaviour:
    def behave(_request: bytes, _context: Any) -> bytes:
        raise error

    return behave
