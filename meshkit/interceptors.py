"""The one interceptor of a server: recording, deadline, admission, error map, running calls.

Each further interceptor costs 50-90 us a call on aio, so there is one, in a sync and an aio
form. Both are a few lines around `served_call.Call`, which decides everything; only waiting
differs.

Unary-unary methods are served this way. Health, reflection, status and streams pass through
untouched. Requests are decoded and answers encoded inside it, since a fault there would
otherwise reach the caller with its exception's text. A call is let in before it is decoded, so
that refusing it stays cheap.
"""

from __future__ import annotations  # grpc's classes are generic to the type checker only

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeAlias

import grpc

from meshkit.admission import Admission, CallPool
from meshkit.served_call import CallGate, Calls, Handler
from meshkit.telemetry.recorder import Recorder

# StatusService says why nothing is served yet, so it must answer before calls are let in.
_UNTOUCHED = (
    "/grpc.health.",
    "/grpc.reflection.",
    "/recmesh.common.v1.StatusService/",
)

MAX_KEPT = 16  # methods of one server; only a handler that takes any name has more

_AioContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class SyncServerInterceptor(grpc.ServerInterceptor):
    """For `grpc.server`: the recording is current in the pool's thread.

    With a `pool`, calls are refused while too many wait for a thread of it.
    """

    def __init__(
        self,
        gate: CallGate | None = None,
        recorder: Recorder | None = None,
        pool: CallPool | None = None,
    ) -> None:
        self._calls = Calls(gate, recorder)
        self._pool = pool
        self._kept = _Kept(self._around)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call with everything of this module around it."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not _is_ours(method, handler):
            return handler
        if self._pool is not None and self._pool.is_full:
            return self._refusal(method, handler, self._pool)
        return self._kept.around(method, handler)

    def _around(
        self, method: str, handler: Handler, *, is_refused: bool = False
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        behaviour: Callable[[Any, grpc.ServicerContext], Any] = handler.unary_unary  # type: ignore[assignment]  # _is_ours saw one

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._calls.one(method, handler, context) as call:
                try:
                    call.admit(is_refused=is_refused)
                    return call.answer(behaviour(call.decode(request), context))
                # gRPC itself would leave a caller without answer at SystemExit and its like.
                except BaseException as error:
                    failure = call.failure(error)
                    if failure is None:
                        raise
                return context.abort_with_status(failure)

        return handle

    def _refusal(self, method: str, handler: Handler, pool: CallPool) -> Handler:
        refuse: Any = self._around(method, handler, is_refused=True)
        refuse.experimental_thread_pool = pool.refusals  # gRPC reads it off the behaviour
        return grpc.unary_unary_rpc_method_handler(refuse)


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server`; handlers are coroutine functions.

    With an `admission`, each call takes a place of it, or is refused.
    """

    def __init__(
        self,
        gate: CallGate | None = None,
        recorder: Recorder | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._calls = Calls(gate, recorder)
        self._admission = admission
        self._kept = _Kept(self._around)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call with everything of this module around it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not _is_ours(method, handler):
            return handler
        return self._kept.around(method, handler)

    def _around(
        self, method: str, handler: Handler
    ) -> Callable[[bytes, _AioContext], Awaitable[bytes]]:
        behaviour: Callable[[Any, _AioContext], Awaitable[Any]] = handler.unary_unary  # type: ignore[assignment]  # _is_ours saw one

        async def handle(request: bytes, context: _AioContext) -> bytes:
            with self._calls.one(method, handler, context) as call:
                try:
                    call.admit()
                    async with self._place(context):
                        return call.answer(await behaviour(call.decode(request), context))
                except BaseException as error:
                    if _ends_task(error):
                        call.cancelled()
                        raise
                    failure = call.failure(error)
                    if failure is None:
                        raise
                return await context.abort_with_status(failure)

        return handle

    def _place(self, context: _AioContext) -> AbstractAsyncContextManager[None]:
        if self._admission is None:
            return nullcontext()
        return self._admission.place(context.time_remaining(), context.peer())


class _Kept:
    """Handlers with everything around them, made once a method and not once a call."""

    def __init__(self, around: Callable[[str, Handler], Callable[[bytes, Any], Any]]) -> None:
        self._around = around
        self._made: dict[str, tuple[Handler, Handler]] = {}

    def around(self, method: str, handler: Handler) -> Handler:
        known, made = self._made.get(method, (None, handler))
        if known is not handler:
            made = grpc.unary_unary_rpc_method_handler(self._around(method, handler))
            if len(self._made) < MAX_KEPT:
                self._made[method] = handler, made
        return made


def _ends_task(error: BaseException) -> bool:
    """Tell the end of the call's own task from a cancellation of something that it waited for."""
    if isinstance(error, GeneratorExit):
        return True
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


def _is_ours(method: str, handler: Handler) -> bool:
    return handler.unary_unary is not None and not method.startswith(_UNTOUCHED)
