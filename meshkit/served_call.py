"""One served call: whether it may start, what it answers, how it fails, what is noted of it."""

from __future__ import annotations  # grpc's classes are generic to the type checker only

import logging
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import grpc

from meshkit import telemetry
from meshkit.errors import (
    CallerError,
    DependencyError,
    DependencyTimeout,
    NotReady,
    Overloaded,
)
from meshkit.statuses import code_of, status_code, status_of
from meshkit.telemetry import metrics, semconv
from meshkit.telemetry.leaf_notes import NOTES_RETURNED
from meshkit.telemetry.notes import Event
from meshkit.telemetry.recorder import Recorder
from meshkit.telemetry.recording import Recording
from meshkit.telemetry.server_metrics import ServerMetrics

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

_UNKNOWN = grpc.StatusCode.UNKNOWN.name

MAX_TEXT_CHARACTERS = 4096  # of an error in a span; an exporter must get the others through too
MAX_TRACE_CHARACTERS = 16384

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = logging.getLogger(__name__)


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


class _Context(Protocol):
    """What sync and aio call contexts have in common."""

    def time_remaining(self) -> float | None: ...

    def code(self) -> grpc.StatusCode | int | None: ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...

    def set_trailing_metadata(self, trailing_metadata: Any) -> None: ...


class Calls:
    """Starts the `Call` of every call of one server."""

    def __init__(self, gate: CallGate | None, recorder: Recorder | None) -> None:
        self.gate = gate or CallGate()
        self.recorder = recorder or telemetry.process_recorder()
        self._metrics = ServerMetrics(metrics.meter())

    def one(self, method: str, handler: Handler, context: Any) -> Call:
        """Begin a call; as a block it is counted and its recording is current."""
        recording = self.recorder.served(
            method.removeprefix("/"), context.invocation_metadata(), context.time_remaining()
        )
        return Call(self, handler, context, recording)

    def count(self, recording: Recording) -> None:
        """Count a call that ends."""
        said: dict[str, Any] = recording.own.attributes
        method, code = said[semconv.RPC_METHOD], said.get(semconv.RPC_STATUS_CODE, _UNKNOWN)
        self._metrics.ended(method, code, said.get(semconv.ERROR_TYPE), recording.duration_s)
        if semconv.PREVIOUS_ATTEMPTS in said:
            self._metrics.retried(method)


class Call:
    """One call: whether it may start, what it answers, and what its recording says of the end."""

    def __init__(
        self, calls: Calls, handler: Handler, context: _Context, recording: Recording
    ) -> None:
        self._calls = calls
        self._handler = handler
        self._context = context
        self._recording = recording

    def __enter__(self) -> Self:
        self._calls.gate.__enter__()
        self._recording.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        try:
            self._calls.count(self._recording)
        finally:
            try:
                self._recording.__exit__(kind, error, trace_back)
            finally:
                self._calls.gate.__exit__(kind, error, trace_back)

    def admit(self, *, is_refused: bool = False) -> None:
        """Raise what the call is refused with, if it is."""
        if not self._calls.gate.is_open:
            raise NotReady("the server is still loading")
        if self._is_expired():
            raise DependencyTimeout("the caller's deadline passed before work began")
        if is_refused:
            raise Overloaded("too many calls wait for a thread")

    def decode(self, request: bytes) -> Any:
        """Return the decoded request. Raises CallerError."""
        try:
            deserialize = self._handler.request_deserializer
            return request if deserialize is None else deserialize(request)
        except Exception as error:
            raise CallerError("the request is not a valid message of its type") from error
        finally:
            self._recording.skip()  # waiting for a place and decoding belong to no stage

    def answer(self, response: Any) -> bytes:
        """Return the encoded response and record the code that the handler left."""
        serialize = self._handler.response_serializer
        encoded: bytes = response if serialize is None else serialize(response)
        late = grpc.StatusCode.DEADLINE_EXCEEDED if self._is_expired() else None
        self._record(late or status_code(self._context.code()))
        self._return_notes()
        return encoded

    def failure(self, error: BaseException) -> grpc.Status | None:
        """Record `error`; return what to abort with, None when the handler has done so."""
        if self._is_own_abort(error):
            self._record(status_code(self._context.code()))
            self._return_notes()
            return None
        self._record(code_of(error), error)
        status: Any = status_of(error)
        # Its trailing metadata replaces whatever the handler set.
        ended: grpc.Status = status._replace(
            trailing_metadata=(*status.trailing_metadata, *self._notes())
        )
        return ended

    def cancelled(self) -> None:
        """Record that nobody waits for the answer: tell a deadline from a caller that hung up."""
        is_late = self._is_expired()
        self._record(grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED)

    def _record(self, code: grpc.StatusCode, error: BaseException | None = None) -> None:
        own = self._recording.own
        own.attributes[semconv.RPC_STATUS_CODE] = code.name
        text = None if error is None else _text_of(error)
        if code in _SERVER_FAULTS:
            own.fail(code.name, text)
        if error is not None and text is not None:
            if self._recording.mode.is_recording:
                own.events = (*own.events, _exception_event(error, text))
            _log_failure(error, text, code)

    def _return_notes(self) -> None:
        notes = self._notes()
        if notes:
            trailing = self._context.trailing_metadata() or ()
            self._context.set_trailing_metadata((*trailing, *notes))

    def _notes(self) -> tuple[tuple[str, bytes], ...]:
        """Return the metadata that brings the caller the notes of this call, if it asked."""
        notes = self._calls.recorder.notes_for_caller(self._recording)
        return () if notes is None else ((NOTES_RETURNED, notes),)

    def _is_expired(self) -> bool:
        remaining_s = self._context.time_remaining()
        return remaining_s is not None and remaining_s <= 0

    def _is_own_abort(self, error: BaseException) -> bool:
        """Recognise the handler's own `context.abort`: sync raises a bare Exception for it."""
        is_bare = type(error) is Exception and not error.args
        if not is_bare and not isinstance(error, grpc.aio.AbortError):
            return False
        return status_code(self._context.code()) is not grpc.StatusCode.OK


def _text_of(error: BaseException) -> str:
    """Return the text of an error, whatever it is, in a form that can be exported."""
    try:
        text = str(error)
    except Exception as fault:  # noqa: BLE001  an error's text must not become an error
        text = f"<{type(fault).__name__} in its __str__>"
    return _exportable(text, MAX_TEXT_CHARACTERS)


def _exception_event(error: BaseException, text: str) -> Event:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    said = {semconv.EXCEPTION_TYPE: name, semconv.EXCEPTION_MESSAGE: text}
    if not isinstance(error, Overloaded):  # where it was raised says nothing, and costs time
        trace_back = "".join(traceback.format_exception(error))
        said[semconv.EXCEPTION_STACKTRACE] = _exportable(trace_back, MAX_TRACE_CHARACTERS)
    return Event(semconv.EXCEPTION, time.perf_counter_ns(), said)


def _exportable(text: str, limit: int) -> str:
    return text[:limit].encode("utf-8", "replace").decode()


def _log_failure(error: BaseException, text: str, code: grpc.StatusCode) -> None:
    """Log what a person must look at: not what the caller did, nor that time ran out."""
    if isinstance(error, DependencyError) and not isinstance(error, DependencyTimeout):
        # While a dependency is down all calls fail alike: a line each, the span has the traceback.
        _log.error("call failed: %s: %s", type(error).__name__, text)
    elif code is grpc.StatusCode.INTERNAL:
        _log.error("call failed", exc_info=error)
