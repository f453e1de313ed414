"""The interceptor's promises, kept alike by the sync and the aio server."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_span_id, format_trace_id

from meshkit import errors, telemetry
from meshkit.errors import FieldViolation, InvalidFields
from meshkit.interceptors import AioServerInterceptor, SyncServerInterceptor
from meshkit.served_call import CallGate

SERVICE = "meshkit.test.v1.ProbeService"
METHOD = f"/{SERVICE}/Do"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
LEAK = "hunter2 at 10.0.0.7"
DEADLINE_S = 20.0

Behaviour = Callable[[bytes, Any], Any]


@dataclass
class Probe:
    """A running server whose one method does what a test says, and the spans it made."""

    kind: str
    gate: CallGate
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    port: int = 0
    channel: Any = None
    behaviour: Behaviour = lambda request, _: request
    decode: Callable[[bytes], Any] = bytes
    encode: Callable[[Any], bytes] = bytes

    def call(self, behaviour: Behaviour, *, request: bytes = b"question", **options: Any) -> bytes:
        self.behaviour = behaviour
        answer: bytes = self.channel.unary_unary(METHOD)(
            request, **{"timeout": DEADLINE_S, **options}
        )
        return answer

    def failed_call(self, behaviour: Behaviour, **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(behaviour, **options)
        return caught.value

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
def started_sync(probe: Probe, tracer: Tracer) -> Iterator[None]:
    interceptor = SyncServerInterceptor(probe.gate, tracer)
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, interceptors=[interceptor])
        add_services(server, probe, health.HealthServicer())
        server.start()
        yield
        server.stop(0).wait()


@contextmanager
def started_aio(probe: Probe, tracer: Tracer) -> Iterator[None]:
    started = threading.Event()
    stop: list[Callable[[], object]] = []

    async def live() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        server = grpc.aio.server(interceptors=[AioServerInterceptor(probe.gate, tracer)])
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
def started(kind: str, gate: CallGate | None = None) -> Iterator[Probe]:
    probe = Probe(kind, gate or CallGate())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(probe.exporter))
    start = started_sync if kind == "sync" else started_aio
    with start(probe, provider.get_tracer("test")):
        probe.channel = grpc.insecure_channel(f"127.0.0.1:{probe.port}")
        yield probe
        probe.channel.close()


@pytest.fixture(params=["sync", "aio"])
def probe(request: pytest.FixtureRequest) -> Iterator[Probe]:
    with started(request.param) as probe:
        yield probe


@pytest.fixture
def aio_probe() -> Iterator[Probe]:
    with started("aio") as probe:
        yield probe


def raising(error: BaseException) -> Behaviour:
    def behave(_request: bytes, _context: Any) -> bytes:
        raise error

    return behave


def everything_sent(error: Any) -> str:
    return repr((error.code(), error.details(), error.trailing_metadata(), error))


def test_an_answered_call_has_a_server_span_in_the_callers_trace(probe: Probe) -> None:
    probe.decode = lambda request: request + b" decoded"
    probe.encode = lambda response: bytes(response) + b" encoded"

    answer = probe.call(lambda request, _: request + b" answered", metadata=TRACEPARENT)

    span = probe.span()
    assert answer == b"question decoded answered encoded"
    assert (span.name, span.kind) == (f"{SERVICE}/Do", SpanKind.SERVER)
    assert span.parent is not None
    assert format_trace_id(span.parent.trace_id) == TRACE_ID
    assert format_span_id(span.parent.span_id) == SPAN_ID
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Do",
        "rpc.response.status_code": "OK",
    }


def test_the_span_is_current_in_the_handler(probe: Probe) -> None:
    seen = probe.call(lambda *_: telemetry.current_ids().span_id.encode())

    context = probe.span().context
    assert context is not None
    assert seen.decode() == format_span_id(context.span_id)


def test_a_calls_trace_does_not_stick_to_the_next_call(probe: Probe) -> None:
    probe.call(lambda request, _: request, metadata=TRACEPARENT)
    trace_id = probe.call(lambda *_: telemetry.current_ids().trace_id.encode())

    assert trace_id.decode() != TRACE_ID


def test_invalid_fields_reach_the_caller_with_every_violation(probe: Probe) -> None:
    fault = InvalidFields([FieldViolation("page_size", "300 is more than 200")])

    error = probe.failed_call(raising(fault))

    detail = BadRequest()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc_status.from_call(error).details[0].Unpack(detail)
    (violation,) = detail.field_violations
    assert (violation.field, violation.description) == ("page_size", "300 is more than 200")


def test_the_largest_violations_still_reach_the_caller(probe: Probe) -> None:
    long = "\N{PILE OF POO}" * 5_000
    fault = InvalidFields([FieldViolation(long, long) for _ in range(1_000)])

    error = probe.failed_call(raising(fault))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc_status.from_call(error).details


def test_overload_tells_the_caller_when_to_come_back(probe: Probe) -> None:
    error = probe.failed_call(raising(errors.Overloaded(LEAK, retry_after_s=0.25)))

    detail = RetryInfo()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc_status.from_call(error).details[0].Unpack(detail)
    assert detail.retry_delay.ToMilliseconds() == 250


@pytest.mark.parametrize(
    ("fault", "code", "is_server_fault"),
    [
        (errors.VersionNotHeld("no v2"), grpc.StatusCode.FAILED_PRECONDITION, False),
        (errors.CallerError("no"), grpc.StatusCode.INVALID_ARGUMENT, False),
        (errors.Overloaded(), grpc.StatusCode.RESOURCE_EXHAUSTED, False),
        (errors.NotReady("no"), grpc.StatusCode.UNAVAILABLE, True),
        (errors.DependencyTimeout("no"), grpc.StatusCode.DEADLINE_EXCEEDED, True),
        (errors.DependencyUnavailable("no"), grpc.StatusCode.UNAVAILABLE, True),
        (RuntimeError("no"), grpc.StatusCode.INTERNAL, True),
    ],
)
def test_the_span_ends_with_the_code_the_caller_got(
    probe: Probe, fault: Exception, code: grpc.StatusCode, is_server_fault: bool
) -> None:
    error = probe.failed_call(raising(fault))

    span = probe.span()
    assert error.code() is code
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == code.name
    assert (span.status.status_code is StatusCode.ERROR) == is_server_fault
    assert ("error.type" in span.attributes) == is_server_fault
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize(
    "fault",
    [RuntimeError(LEAK), errors.MeshError(LEAK), grpc.RpcError(LEAK), TimeoutError(LEAK)],
)
def test_an_exceptions_text_never_leaves_the_process(
    probe: Probe, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    error = probe.failed_call(raising(fault))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error"
    assert LEAK not in everything_sent(error)
    span = probe.span()
    assert span.status.description == LEAK
    assert span.events[0].attributes is not None
    assert span.events[0].attributes["exception.message"] == LEAK
    assert LEAK in caplog.text


@pytest.mark.parametrize(
    "fault", [errors.DependencyUnavailable("gone"), errors.DependencyError("full")]
)
def test_a_dependencys_failure_is_one_line_of_log_and_a_traceback_in_the_span(
    probe: Probe, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    probe.failed_call(raising(fault))

    (event,) = probe.span().events
    (record,) = caplog.records
    assert record.getMessage() == f"call failed: {type(fault).__name__}: {fault}"
    assert record.exc_info is None
    assert event.attributes is not None
    assert "Traceback" in str(event.attributes["exception.stacktrace"])


def test_a_call_that_came_too_late_is_not_logged(
    probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    probe.failed_call(raising(errors.DependencyTimeout("no time left")))

    assert not caplog.records


def test_an_answer_that_cannot_be_encoded_is_an_internal_error(probe: Probe) -> None:
    def encode(_: Any) -> bytes:
        raise TypeError(LEAK)

    probe.encode = encode

    error = probe.failed_call(lambda request, _: request)

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert LEAK not in everything_sent(error)


def test_a_request_that_cannot_be_decoded_is_the_callers_fault(probe: Probe) -> None:
    def decode(_: bytes) -> Any:
        raise ValueError(LEAK)

    probe.decode = decode

    error = probe.failed_call(lambda request, _: request)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert LEAK not in everything_sent(error)


def test_a_handlers_own_abort_passes_with_its_code_and_words(probe: Probe) -> None:
    def behave(_request: bytes, context: Any) -> Any:
        return context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    error = probe.failed_call(behave)

    span = probe.span()
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events


def test_a_code_that_the_handler_sets_is_the_spans(probe: Probe) -> None:
    def behave(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return request

    error = probe.failed_call(behave)

    span = probe.span()
    assert error.code() is grpc.StatusCode.DATA_LOSS
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "DATA_LOSS"
    assert span.status.status_code is StatusCode.ERROR


def test_health_and_reflection_pass_without_a_span(probe: Probe) -> None:
    checks = health_pb2_grpc.HealthStub(probe.channel)
    listing = reflection_pb2_grpc.ServerReflectionStub(probe.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    check = checks.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    watch = checks.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    first = next(iter(watch))
    watch.cancel()
    (answer,) = listing.ServerReflectionInfo(iter([question]), timeout=DEADLINE_S)

    assert check.status == first.status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in [service.name for service in answer.list_services_response.service]
    assert probe.exporter.get_finished_spans() == ()


def test_a_call_that_outlives_its_deadline_ends_so_in_its_span(probe: Probe) -> None:
    async def behave_aio() -> None:
        await asyncio.Event().wait()  # the server cancels it

    def behave(_request: bytes, context: Any) -> Any:
        if probe.kind == "aio":
            return behave_aio()
        wait_until(lambda: not context.is_active())
        return b"too late"

    error = probe.failed_call(behave, timeout=0.1)

    span = probe.span()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert span.status.status_code is StatusCode.ERROR


def test_a_caller_that_hangs_up_is_no_fault_of_the_server(aio_probe: Probe) -> None:
    begun = threading.Event()

    async def behave(_request: bytes, _context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    aio_probe.behaviour = behave
    call = aio_probe.channel.unary_unary(METHOD).future(b"question", timeout=DEADLINE_S)
    assert begun.wait(DEADLINE_S)
    call.cancel()

    span = aio_probe.span()
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_calls_are_refused_until_the_gate_opens(kind: str) -> None:
    with started(kind, CallGate(is_open=False)) as probe:
        error = probe.failed_call(lambda request, _: request)
        probe.gate.open()
        answer = probe.call(lambda request, _: request)

    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "not ready")
    assert answer == b"question"


def test_the_gate_counts_the_calls_that_run(probe: Probe) -> None:
    counts: list[int] = []

    def behave(request: bytes, _context: Any) -> bytes:
        counts.append(probe.gate.running)
        return request

    probe.call(behave)

    assert counts == [1]
    wait_until(lambda: probe.gate.running == 0)
