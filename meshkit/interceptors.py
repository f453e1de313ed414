"""The one interceptor of a server: span, deadline, error map and count of running calls.

Each further interceptor costs 50-90 us a call on aio, so there is one, in a sync and an aio
form. Both are a few lines around `_Call`, which decides everything; only waiting differs.

Unary-unary methods are served this way. Health, reflection, status and streams pass through
untouched. Requests are decoded and answers encoded inside the span, since a fault there would
otherwise reach the caller with its exception's text.
"""

from __future__ import annotations  # grpc's classes are generic to the type checker only

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from meshkit import semconv, telemetry
from meshkit.errors import CallerError, DependencyError, DependencyTimeout, NotReady
from meshkit.statuses import code_of, status_code, status_of

# StatusService says why nothing is served yet, so it must answer before calls are let in.
_UNTOUCHED = ("/grpc.health.", "/grpc.reflection.", "/recmesh.common.v1.StatusService/")

# Codes that OpenTelemetry counts as the server's own failure; others are the caller's business.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)

_log = logging.getLogger(__name__)

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_AioContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallGate:
    """Says whether calls are let in, and counts those that run; safe between threads.

    gRPC's own `stop(grace)` does not wait for every handler, and waits for health watchers.
    """

    def __init__(self, *, is_open: bool = True) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._is_open = is_open

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        with self._lock:
            self._running -= 1

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return self._running

    @property
    def is_open(self) -> bool:
        """Whether calls are let in."""
        return self._is_open

    def open(self) -> None:
        """Let calls in from now on."""
        self._is_open = True


class SyncServerInterceptor(grpc.ServerInterceptor):
    """For `grpc.server`: the span is current in the pool's thread."""

    def __init__(self, gate: CallGate | None = None, tracer: Tracer | None = None) -> None:
        self._calls = _Calls(gate, tracer)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], _Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of a call with everything of this module around it."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        return self._around(method, handler) if handler and _is_ours(method, handler) else handler

    def _around(self, method: str, handler: _Handler) -> _Handler:
        behaviour: Callable[[Any, grpc.ServicerContext], Any] = handler.unary_unary  # type: ignore[assignment]  # _is_ours saw one

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._calls.one(method, handler, context) as call:
                try:
                    return call.answer(behaviour(call.admit(request), context))
                except Exception as error:
                    failure = call.failure(error)
                    if failure is None:
                        raise
                return context.abort_with_status(failure)

        return grpc.unary_unary_rpc_method_handler(handle)


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server`; handlers are coroutine functions."""

    def __init__(self, gate: CallGate | None = None, tracer: Tracer | None = None) -> None:
        self._calls = _Calls(gate, tracer)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of a call with everything of this module around it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        return self._around(method, handler) if handler and _is_ours(method, handler) else handler

    def _around(self, method: str, handler: _Handler) -> _Handler:
        behaviour: Callable[[Any, _AioContext], Awaitable[Any]] = handler.unary_unary  # type: ignore[assignment]  # _is_ours saw one

        async def handle(request: bytes, context: _AioContext) -> bytes:
            with self._calls.one(method, handler, context) as call:
                try:
                    return call.answer(await behaviour(call.admit(request), context))
                except (Exception, asyncio.CancelledError) as error:
                    failure = call.failure(error)
                    if failure is None:
                        raise
                return await context.abort_with_status(failure)

        return grpc.unary_unary_rpc_method_handler(handle)


class _Context(Protocol):
    """What sync and aio call contexts have in common."""

    def time_remaining(self) -> float | None: ...

    def code(self) -> grpc.StatusCode | int | None: ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


class _Calls:
    """Starts the `_Call` of every call of one server."""

    def __init__(self, gate: CallGate | None, tracer: Tracer | None) -> None:
        self._gate = gate or CallGate()
        self._tracer = tracer or trace.get_tracer("meshkit")

    @contextmanager
    def one(self, method: str, handler: _Handler, context: Any) -> Iterator[_Call]:
        """Count a call and make its span current, until the block ends."""
        name = method.removeprefix("/")
        started = self._tracer.start_as_current_span(
            name,
            context=telemetry.extract(context.invocation_metadata()),
            kind=SpanKind.SERVER,
            attributes={semconv.RPC_SYSTEM: semconv.GRPC, semconv.RPC_METHOD: name},
            record_exception=False,  # `_Call` does: an abort is no exception of ours
            set_status_on_exception=False,
        )
        with self._gate, started as span:
            yield _Call(self._gate, handler, context, span)


class _Call:
    """One call: whether it may start, what it answers, and how its span ends."""

    def __init__(self, gate: CallGate, handler: _Handler, context: _Context, span: Span) -> None:
        self._gate = gate
        self._handler = handler
        self._context = context
        self._span = span

    def admit(self, request: bytes) -> Any:
        """Return the decoded request, or raise what the call is refused with."""
        if not self._gate.is_open:
            raise NotReady("the server is still loading")
        if self._is_expired():
            raise DependencyTimeout("the caller's deadline passed before work began")
        if self._handler.request_deserializer is None:
            return request
        try:
            return self._handler.request_deserializer(request)
        except Exception as error:
            raise CallerError("the request is not a valid message of its type") from error

    def answer(self, response: Any) -> bytes:
        """Return the encoded response and record the code that the handler left."""
        serialize = self._handler.response_serializer
        encoded: bytes = response if serialize is None else serialize(response)
        late = grpc.StatusCode.DEADLINE_EXCEEDED if self._is_expired() else None
        self._record(late or status_code(self._context.code()))
        return encoded

    def failure(self, error: BaseException) -> grpc.Status | None:
        """Record `error`; return what to abort with, None when it must simply pass on."""
        if isinstance(error, asyncio.CancelledError):
            self._record(self._code_of_cancellation())
            return None
        if self._is_own_abort(error):
            self._record(status_code(self._context.code()))
            return None
        self._record(code_of(error), error)
        return status_of(error)

    def _record(self, code: grpc.StatusCode, error: BaseException | None = None) -> None:
        self._span.set_attribute(semconv.RPC_STATUS_CODE, code.name)
        if code in _SERVER_FAULTS:
            self._span.set_attribute(semconv.ERROR_TYPE, code.name)
            self._span.set_status(Status(StatusCode.ERROR, None if error is None else str(error)))
        if error is not None:
            self._span.record_exception(error)
            _log_failure(error, code)

    def _is_expired(self) -> bool:
        remaining_s = self._context.time_remaining()
        return remaining_s is not None and remaining_s <= 0

    def _code_of_cancellation(self) -> grpc.StatusCode:
        """Tell a deadline that cancelled the handler from a caller that hung up."""
        if self._is_expired():
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED

    def _is_own_abort(self, error: BaseException) -> bool:
        """Recognise the handler's own `context.abort`: sync raises a bare Exception for it."""
        if isinstance(error, grpc.aio.AbortError):
            return True
        is_bare = type(error) is Exception and not error.args
        return is_bare and status_code(self._context.code()) is not grpc.StatusCode.OK


def _log_failure(error: BaseException, code: grpc.StatusCode) -> None:
    """Log what a person must look at: not what the caller did, nor that time ran out."""
    if isinstance(error, DependencyError) and not isinstance(error, DependencyTimeout):
        # While a dependency is down all calls fail alike: a line each, the span has the traceback.
        _log.error("call failed: %s: %s", type(error).__name__, error)
    elif code is grpc.StatusCode.INTERNAL:
        _log.error("call failed", exc_info=error)


def _is_ours(method: str, handler: _Handler) -> bool:
    return handler.unary_unary is not None and not method.startswith(_UNTOUCHED)
