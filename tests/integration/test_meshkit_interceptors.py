"""The interceptor's promises, kept alike by the sync and the aio server."""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from meshkit import errors, telemetry
from meshkit.errors import FieldViolation, InvalidFields
from meshkit.served_call import CallGate
from meshkit.telemetry import leaf_notes, recording
from meshkit.telemetry.leaf_notes import NOTES_RETURNED, LeafNotes
from tests.integration.probe_server import (
    DEADLINE_S,
    METHOD,
    SERVICE,
    Probe,
    raising,
    started,
    wait_until,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
LEAK = "hunter2 at 10.0.0.7"


@pytest.fixture(params=["sync", "aio"])
def probe(request: pytest.FixtureRequest) -> Iterator[Probe]:
    with started(request.param) as probe:
        yield probe


@pytest.fixture
def aio_probe() -> Iterator[Probe]:
    with started("aio") as probe:
        yield probe


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
        "recmesh.kept": "sampled",
    }


def test_decoding_belongs_to_no_stage_of_the_handler(probe: Probe) -> None:
    def behave(request: bytes, _context: Any) -> bytes:
        recording.mark("stage")
        return request

    probe.call(behave)

    wait_until(lambda: len(probe.exporter.get_finished_spans()) == 2)
    own, stage = probe.exporter.get_finished_spans()
    assert own.start_time is not None
    assert stage.start_time is not None
    assert stage.start_time > own.start_time


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

    error = probe.outlived_call(behave)

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


UNSAMPLED = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"),)


def notes_in(trailing: Any) -> LeafNotes | None:
    (notes,) = [value for key, value in trailing if key == NOTES_RETURNED]
    return leaf_notes.read(notes)


def test_an_answer_in_an_unsampled_trace_brings_its_notes(probe: Probe) -> None:
    def behave(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("kept", "too"),))
        recording.mark("stage", {"count": 3})
        return request

    probe.behaviour = behave
    call = probe.begin(metadata=UNSAMPLED)
    call.result()

    notes = notes_in(call.trailing_metadata())
    assert notes is not None
    assert notes.own.attributes["rpc.response.status_code"] == "OK"
    assert [(note.name, note.attributes) for note in notes.stages] == [("stage", {"count": 3})]
    assert ("kept", "too") in call.trailing_metadata()
    assert probe.exporter.get_finished_spans() == ()


@pytest.mark.parametrize("metadata", [(), TRACEPARENT], ids=str)
def test_an_answer_brings_no_notes_where_nobody_decides_by_them(
    probe: Probe, metadata: Any
) -> None:
    call = probe.begin(metadata=metadata)
    call.result()

    assert NOTES_RETURNED not in dict(call.trailing_metadata())


def test_a_failure_brings_notes_without_its_text(probe: Probe) -> None:
    error = probe.failed_call(raising(RuntimeError(LEAK)), metadata=UNSAMPLED)

    notes = notes_in(error.trailing_metadata())
    assert notes is not None
    assert notes.own.is_error
    assert [event.attributes for event in notes.own.events] == [{"exception.type": "RuntimeError"}]
    assert LEAK not in everything_sent(error)


def test_a_handlers_own_abort_brings_notes_where_it_still_can() -> None:
    def behave(_request: bytes, context: Any) -> Any:
        return context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    with started("sync") as probe:
        error = probe.failed_call(behave, metadata=UNSAMPLED)
    with started("aio") as probe:  # it has answered when we hear of it
        aio_error = probe.failed_call(behave, metadata=UNSAMPLED)

    notes = notes_in(error.trailing_metadata())
    assert notes is not None
    assert notes.own.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert not notes.own.is_error
    assert aio_error.code() is grpc.StatusCode.NOT_FOUND


def test_the_largest_notes_beside_the_largest_violations_still_reach_the_caller(
    probe: Probe,
) -> None:
    long = "\N{PILE OF POO}" * 5_000
    fault = InvalidFields([FieldViolation(long, long) for _ in range(1_000)])

    def behave(_request: bytes, _context: Any) -> bytes:
        for place in range(100):
            recording.mark(f"stage {place}", {"text": "x" * 60})
        raise fault

    error = probe.failed_call(behave, metadata=UNSAMPLED)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc_status.from_call(error).details
    assert notes_in(error.trailing_metadata()) is not None


class Unprintable(Exception):  # noqa: N818  names what it is
    """An error whose own text fails."""

    def __str__(self) -> str:
        raise ValueError(*self.args)


def chained(text: str) -> Exception:
    error = RuntimeError(text)
    error.__cause__ = ValueError(text)
    error.add_note(text)
    return error


def of_a_call_of_ours(text: str) -> Exception:
    metadata = grpc.aio.Metadata(("secret", text))
    return grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, metadata, metadata, text, text)


INTERNAL = (grpc.StatusCode.INTERNAL, "internal error")
NOT_READY = (grpc.StatusCode.UNAVAILABLE, "not ready")
NO_ROOM = (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
DOWN = (grpc.StatusCode.UNAVAILABLE, "dependency unavailable")
LATE = (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded")

WHAT_IS_RAISED: dict[str, tuple[Callable[[str], BaseException], object]] = {
    "mesh error": (errors.MeshError, INTERNAL),
    "dependency error": (errors.DependencyError, INTERNAL),
    "dependency down": (errors.DependencyUnavailable, DOWN),
    "dependency late": (errors.DependencyTimeout, LATE),
    "overloaded": (errors.Overloaded, NO_ROOM),
    "not ready": (errors.NotReady, NOT_READY),
    "runtime error": (RuntimeError, INTERNAL),
    "key error": (KeyError, INTERNAL),
    "os error": (lambda text: OSError(2, text, text), INTERNAL),
    "stop iteration": (StopIteration, INTERNAL),
    "assertion": (AssertionError, INTERNAL),
    "timeout": (TimeoutError, INTERNAL),
    "chain with a note": (chained, INTERNAL),
    "bare exception with text": (Exception, INTERNAL),
    "error that cannot be printed": (Unprintable, INTERNAL),
    "error of an outgoing call": (of_a_call_of_ours, INTERNAL),
    "another call's abort": (grpc.aio.AbortError, INTERNAL),
    "misuse of gRPC": (grpc.aio.UsageError, INTERNAL),
    "group": (lambda text: ExceptionGroup(text, [ValueError(text)]), INTERNAL),
    "group of interrupts": (
        lambda text: BaseExceptionGroup(text, [KeyboardInterrupt(text), SystemExit(text)]),
        INTERNAL,
    ),
    "interrupt": (KeyboardInterrupt, INTERNAL),
    "exit": (SystemExit, INTERNAL),
    "cancellation of something awaited": (asyncio.CancelledError, INTERNAL),
    "cancellation in a thread": (concurrent.futures.CancelledError, INTERNAL),
}

SECRETS = st.builds(
    lambda text, repeats: f"{LEAK}{text * repeats}{LEAK}",
    st.text(st.characters(), max_size=40),  # control characters and lone surrogates among them
    st.sampled_from([1, 1, 1, 2_000]),
)


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Keep lone surrogates out of the captured log, which a test worker cannot send on."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", params=["sync", "aio"])
def lasting_probe(request: pytest.FixtureRequest) -> Iterator[Probe]:
    with started(request.param) as probe:
        yield probe


@pytest.mark.usefixtures("unlogged")
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WHAT_IS_RAISED)), SECRETS, st.booleans())
def test_no_text_that_a_handler_raises_reaches_its_caller(
    lasting_probe: Probe, kind: str, secret: str, sends_metadata: bool
) -> None:
    make, expected = WHAT_IS_RAISED[kind]

    def behave(_request: bytes, context: Any) -> Any:
        if sends_metadata:
            context.set_trailing_metadata((("kept", "apart"),))
        raise make(secret)

    error = lasting_probe.failed_call(behave)

    sent = [*error.initial_metadata(), *error.trailing_metadata()]
    assert (error.code(), error.details()) == expected
    assert not any(LEAK.encode() in _bytes(part) for entry in sent for part in entry)
    assert {key for key, _ in sent} <= {"grpc-status-details-bin", "kept"}
    assert LEAK not in everything_sent(error)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("kind", sorted(WHAT_IS_RAISED))
def test_every_kind_of_exception_ends_the_call_and_its_span(probe: Probe, kind: str) -> None:
    make, expected = WHAT_IS_RAISED[kind]

    error = probe.failed_call(raising(make("\ud800" + LEAK * 10_000)))

    (event,) = probe.span().events
    assert (error.code(), error.details()) == expected
    assert event.attributes is not None
    assert all(len(str(value).encode()) < 100_000 for value in event.attributes.values())


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode()
