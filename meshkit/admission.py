"""Who is let in when more calls come than a server gets through.

A server on an event loop admits by an adaptive limit (`Admission`), a server with threads bounds
the calls that wait for one (`CallPool`). Who is not let in hears so at once, and when to try again.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from meshkit.arrivals import TARGET_S, Arrivals
from meshkit.concurrency import AdaptiveLimit
from meshkit.errors import DEFAULT_RETRY_AFTER_S, Overloaded

PATIENT_S = 1.0  # who has this long may be made to wait; less belongs to a page being rendered
PATIENT_SHARE = 0.75  # of the places; the others are kept for hurried calls
WAITING_PER_PLACE = 4
WAIT_SHARE = 0.2  # of the time left, so that most of it remains for the work
MAX_WAIT_S = 1.0  # also for a deadline that is hours away
LEAST_QUALITY = 0.25
RETRY_AFTER_BOUNDS_S = (0.025, 1.0)

P = ParamSpec("P")
T = TypeVar("T")


class Admission:
    """The places of a server on an event loop, as many as its latency allows; for one loop.

    *Hurried* calls, with a deadline under `PATIENT_S` or none, are let in or refused at once.
    *Patient* ones wait for a place, and only get one while `PATIENT_SHARE` of them are not taken.
    """

    def __init__(self, limit: AdaptiveLimit | None = None) -> None:
        self._limit = limit or AdaptiveLimit()
        self._arrivals = Arrivals()
        self._waited_s = 0.0
        self._in_flight = 0
        self._shed = 0
        self._turns: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """How many places are taken."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """How many places there are now."""
        return self._limit.limit

    @property
    def waiting(self) -> int:
        """How many patient calls wait for a place."""
        return len(self._turns)

    @property
    def shed(self) -> int:
        """How many calls have been refused so far."""
        return self._shed

    async def enter(self, remaining_s: float | None, peer: str = "") -> None:
        """Take a place; `remaining_s` is what the caller has left, None without a deadline.

        Raises Overloaded when there is none, for a patient call none in time, and for a hurried
        one also when it waited too long, as most did, before it was seen.
        """
        if remaining_s is None or remaining_s < PATIENT_S:
            if self._in_flight >= self.limit or self._came_late(remaining_s, peer):
                raise self._refusal()
            self._in_flight += 1
        elif self._has_patient_place() and not self._turns:
            self._in_flight += 1
        else:
            await self._wait(min(remaining_s * WAIT_SHARE, MAX_WAIT_S))

    def _came_late(self, remaining_s: float | None, peer: str) -> bool:
        if remaining_s is None:
            return False
        self._waited_s = self._arrivals.wait_s(peer, remaining_s)
        return self._waited_s > TARGET_S and self._arrivals.are_queued()

    def leave(self) -> None:
        """Give a place back."""
        self._in_flight -= 1
        self._call_next()

    def place(self, remaining_s: float | None, peer: str = "") -> AbstractAsyncContextManager[None]:
        """Hold a place while the block runs, and as long as what it gave to `keep_until`.

        Entering it raises Overloaded, see `enter`.
        """
        return _Place(self, remaining_s, peer)

    def keep_until(self, work: "asyncio.Future[Any]") -> None:
        """Keep the current call's place until `work` ends, though its handler may end before.

        Without effect outside a call that was admitted, and after its end.
        """
        place = _PLACE.get()
        if place is not None and place.hold():
            work.add_done_callback(lambda _: place.let_go())

    def observe(self, latency_s: float) -> None:
        """Learn from the latency of a call that ends, without its waits for parts that were late.

        Such a wait tells of another server's trouble, and would shut callers out for it.
        """
        self._limit.observe(latency_s, self._in_flight, self._waited_s)
        self._call_next()

    def quality(self) -> float:
        """Return what share of its usual effort a call should make now, LEAST_QUALITY to 1.

        All of it while at most half the places are taken and calls wait at most half as long as
        they may before they are seen, falling in proportion from there.
        """
        pressure = max(self._in_flight / self.limit, self._arrivals.usual_wait_s() / TARGET_S)
        beyond_half = max(2 * pressure - 1, 0.0)
        return max(1 - (1 - LEAST_QUALITY) * beyond_half, LEAST_QUALITY)

    def _has_patient_place(self) -> bool:
        return self._in_flight < max(int(self.limit * PATIENT_SHARE), 1)

    async def _wait(self, wait_s: float) -> None:
        if len(self._turns) >= WAITING_PER_PLACE * self.limit:
            raise self._refusal()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._turns[turn] = None
        timer = loop.call_later(wait_s, _settle, turn, False)
        try:
            is_admitted = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave()  # the place was given in the same instant
            raise
        finally:
            timer.cancel()
            self._turns.pop(turn, None)
        if not is_admitted:
            raise self._refusal()

    def _call_next(self) -> None:
        while self._turns and self._has_patient_place():
            turn, _ = self._turns.popitem(last=False)
            if _settle(turn, True):
                self._in_flight += 1

    def _refusal(self) -> Overloaded:
        self._shed += 1
        latency_s = self._limit.latency_s
        least_s, most_s = RETRY_AFTER_BOUNDS_S
        return Overloaded(
            f"{self._in_flight} calls in flight of {self.limit}, {len(self._turns)} waiting",
            retry_after_s=(
                DEFAULT_RETRY_AFTER_S
                if latency_s is None
                else min(max(latency_s, least_s), most_s)  # by then every place was free once
            ),
        )


class CallPool(ThreadPoolExecutor):
    """Threads for calls, and how many calls wait for one; safe between threads."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        super().__init__(threads, thread_name_prefix="call")
        self.refusals = ThreadPoolExecutor(1, thread_name_prefix="refusal")
        """Answers those that are not let in, so that they wait for nobody."""
        self._max_waiting = max_waiting
        self._threads_of_calls = threads
        self._lock = threading.Lock()
        self._unfinished = 0

    @property
    def room(self) -> int:
        """How many calls it takes, those that run included."""
        return self._threads_of_calls + self._max_waiting

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return max(self._unfinished - self._threads_of_calls, 0)

    @property
    def is_full(self) -> bool:
        """Whether no further call should wait."""
        return self.waiting >= self._max_waiting

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` in one of the threads, after all that was given before."""
        with self._lock:
            self._unfinished += 1
        try:
            future = super().submit(work, *args, **kwargs)
        except RuntimeError:
            self._finished()
            raise
        future.add_done_callback(self._finished)
        return future

    def _finished(self, _: object = None) -> None:
        with self._lock:
            self._unfinished -= 1


class _Place:
    """One place, given back when the last who holds it lets go; the block is the first."""

    def __init__(self, admission: Admission, remaining_s: float | None, peer: str) -> None:
        self._admission = admission
        self._remaining_s = remaining_s
        self._peer = peer
        self._holders = 0
        self._outside: Token[_Place | None] | None = None

    async def __aenter__(self) -> None:
        await self._admission.enter(self._remaining_s, self._peer)
        self._holders = 1
        self._outside = _PLACE.set(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        if self._outside is not None:
            _PLACE.reset(self._outside)
        self.let_go()

    def hold(self) -> bool:
        """Hold it too; return whether it was still held."""
        is_held = self._holders > 0
        self._holders += is_held
        return is_held

    def let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._admission.leave()


_PLACE: ContextVar[_Place | None] = ContextVar("place", default=None)


def _settle(turn: "asyncio.Future[bool]", is_admitted: bool) -> bool:
    """Answer who waits, unless that was done; return whether it was not."""
    if turn.done():
        return False
    turn.set_result(is_admitted)
    return True
