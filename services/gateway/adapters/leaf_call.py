"""One method of one leaf: called, called again when slow, and what came of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import grpc

from meshkit.telemetry.metrics import Meter
from meshkit.telemetry.notes import Trailing
from meshkit.telemetry.outgoing_call import OutgoingCall, begin_call
from services import attributes
from services.gateway.adapters.leaf_log import ANSWERS, LeafLog
from services.gateway.adapters.leaf_metrics import LeafMetrics
from services.gateway.domain.failures import RULES, Again, CallPolicy, Failure
from services.gateway.domain.hedging import Hedging

Response = TypeVar("Response")

FAILURES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Failure.LATE,
    grpc.StatusCode.UNAVAILABLE: Failure.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Failure.FULL,
    grpc.StatusCode.FAILED_PRECONDITION: Failure.MOVED,
    grpc.StatusCode.INVALID_ARGUMENT: Failure.REFUSED,
    grpc.StatusCode.OUT_OF_RANGE: Failure.REFUSED,
}
"""Every other code is `Failure.BROKEN`."""


def retry_codes(policy: CallPolicy) -> tuple[grpc.StatusCode, ...]:
    """Return the codes after which a channel may try again, as the failure policy has it."""
    if not policy.retries:
        return ()
    return tuple(code for code, failure in FAILURES.items() if RULES[failure].again is Again.RETRY)


@dataclass(frozen=True, slots=True)
class Answered(Generic[Response]):
    """A call that was answered."""

    response: Response
    latency_s: float
    is_hedged: bool
    noted: OutgoingCall
    """What the trace says of the attempt that brought the answer."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that was not, or not as it should be."""

    failure: Failure
    latency_s: float
    is_hedged: bool


@dataclass(frozen=True, slots=True)
class _Fault:
    """What went wrong with one attempt, and what the log says of it."""

    failure: Failure
    text: str


@dataclass(frozen=True, slots=True)
class _Answer(Generic[Response]):
    """What one attempt brought."""

    response: Response
    noted: OutgoingCall


@dataclass(frozen=True, slots=True)
class Leaf:
    """Who is called, in the words of traces and of the log."""

    name: str
    """The source's, or "ranker"."""
    method: str
    """Full name of the method, without a leading slash."""
    is_source: bool = False


class LeafCall(Generic[Response]):
    """Calls one method through one channel; without `hedging` no call is made twice.

    No call is ever cancelled, which would leak: each ends by a timeout of its own, and the answer
    that is not needed any more is dropped.
    """

    def __init__(
        self,
        leaf: Leaf,
        method: Callable[..., Any],
        hedging: Hedging | None = None,
        metrics: LeafMetrics | None = None,
    ) -> None:
        self._leaf = leaf
        self._method = method
        self._hedging = hedging
        self._metrics = metrics or LeafMetrics(Meter(), (), ())
        self._log = LeafLog(f"source {leaf.name}" if leaf.is_source else leaf.name)
        self._attempts: set[asyncio.Task[_Answer[Response] | _Fault]] = set()

    async def __call__(self, request: Any, *, timeout_s: float) -> Answered[Response] | Failed:
        """Return what came of it within `timeout_s`. Never raises."""
        started_s = time.monotonic()
        delay_s = None if self._hedging is None else self._hedging.delay_s()
        if delay_s is None or delay_s >= timeout_s:
            result, is_hedged = await self._attempt(request, timeout_s), False
        else:
            result, is_hedged = await self._hedged(request, delay_s, timeout_s)
        latency_s = time.monotonic() - started_s
        if isinstance(result, _Fault):
            self._log.note(result.text)
            return Failed(result.failure, latency_s, is_hedged)
        self._log.note(ANSWERS)
        return Answered(result.response, latency_s, is_hedged, result.noted)

    def broken(self, answered: Answered[Response]) -> Failed:
        """Return the failure that an answer is when it breaks the contract."""
        self._log.note("its answer breaks the contract")
        self._note_failure(answered.noted, Failure.BROKEN)
        return Failed(Failure.BROKEN, answered.latency_s, answered.is_hedged)

    async def _hedged(
        self, request: Any, delay_s: float, timeout_s: float
    ) -> tuple[_Answer[Response] | _Fault, bool]:
        """Return what the first attempt brings, or the better of two when it is slow."""
        first = self._start(request, timeout_s)
        done, _ = await asyncio.wait({first}, timeout=delay_s)
        if done or self._hedging is None or not self._hedging.spend():
            return await first, False
        self._metrics.hedged(self._leaf.name)
        second = self._start(request, timeout_s - delay_s, is_first=False)
        attempts = {first, second}
        done, waiting = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
        if waiting and all(isinstance(each.result(), _Fault) for each in done):
            done, _ = await asyncio.wait(attempts)
        answers = (each.result() for each in done if not isinstance(each.result(), _Fault))
        return next(answers, None) or first.result(), True

    def _start(
        self, request: Any, timeout_s: float, *, is_first: bool = True
    ) -> "asyncio.Task[_Answer[Response] | _Fault]":
        task = asyncio.ensure_future(self._attempt(request, timeout_s, is_first=is_first))
        self._attempts.add(task)  # the event loop itself holds tasks weakly
        task.add_done_callback(self._attempts.discard)
        return task

    async def _attempt(
        self, request: Any, timeout_s: float, *, is_first: bool = True
    ) -> _Answer[Response] | _Fault:
        started_s = time.monotonic()
        noted = begin_call(
            self._leaf.method,
            {attributes.LEAF: self._leaf.name, attributes.ATTEMPT: 1 if is_first else 2},
        )
        result = await self._outcome(request, timeout_s, noted)
        if is_first and self._hedging is not None and isinstance(result, _Answer):
            self._hedging.answered(time.monotonic() - started_s)
        return result

    async def _outcome(
        self, request: Any, timeout_s: float, noted: OutgoingCall
    ) -> _Answer[Response] | _Fault:
        """Make one call and note how it ended."""
        code = grpc.StatusCode.CANCELLED  # unless we hear otherwise
        trailing: Trailing | None = None
        started_s = time.monotonic()
        try:
            call = self._method(request, timeout=timeout_s, metadata=noted.metadata)
            response: Response | None = await call
            code = grpc.StatusCode.OK
            trailing = partial(_trailing_metadata, call)
            if response is None:  # what grpc.aio makes of bytes that it cannot decode
                return self._fault(noted, Failure.BROKEN, "its answer cannot be decoded")
            return _Answer(response, noted)
        except grpc.aio.AioRpcError as error:
            code, trailing = error.code(), partial(iter, error.trailing_metadata() or ())
            return self._fault(noted, FAILURES.get(code, Failure.BROKEN), code.name)
        except grpc.aio.UsageError:  # the channel was closed while its version went
            code = grpc.StatusCode.UNAVAILABLE
            return self._fault(noted, Failure.UNAVAILABLE, "its channel is closed")
        finally:
            noted.end(code.name, trailing)
            taken_s = time.monotonic() - started_s
            self._metrics.ended(self._leaf.name, self._leaf.method, code.name, taken_s)

    def _fault(self, noted: OutgoingCall, failure: Failure, text: str) -> _Fault:
        self._note_failure(noted, failure)
        return _Fault(failure, text)

    def _note_failure(self, noted: OutgoingCall, failure: Failure) -> None:
        noted.note(attributes.FAILURE, failure.name)
        if self._leaf.is_source:
            noted.note(attributes.SOURCE_STATUS, RULES[failure].status.name)


def _trailing_metadata(call: Any) -> Any:
    """Return the trailing metadata of a call that was answered, which there is no wait for."""
    waiting = call.trailing_metadata()
    try:
        waiting.send(None)
    except StopIteration as had:
        return had.value
    finally:
        waiting.close()
    return None
