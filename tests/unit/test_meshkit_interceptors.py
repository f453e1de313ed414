"""What no client can bring about on purpose: expiry just before a handler, changing handlers."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from meshkit.interceptors import MAX_KEPT, AioServerInterceptor, SyncServerInterceptor


class Aborted(Exception):  # noqa: N818  names what happened
    """What a context raises to leave the handler."""


@dataclass
class HeldContext:
    """A call, expired unless told otherwise; remembers the status that it was ended with."""

    statuses: list[grpc.Status] = field(default_factory=list)

    remaining_s: float = 0.0

    def time_remaining(self) -> float:
        return self.remaining_s

    def code(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def abort_with_status(self, status: grpc.Status) -> None:
        self.statuses.append(status)
        raise Aborted


DETAILS: Any = SimpleNamespace(method="/meshkit.test.v1.ProbeService/Do", invocation_metadata=())


def test_a_sync_server_begins_no_work_on_an_expired_request() -> None:
    begun: list[bytes] = []
    context = HeldContext()
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: begun.append(request))
    around: Any = SyncServerInterceptor().intercept_service(lambda _: handler, DETAILS)

    with pytest.raises(Aborted):
        around.unary_unary(b"question", context)

    assert [status.code for status in context.statuses] == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert begun == []


def test_an_aio_server_begins_no_work_on_an_expired_request() -> None:
    begun: list[bytes] = []
    context = HeldContext()

    async def behave(request: bytes, _context: Any) -> None:
        begun.append(request)

    async def check() -> None:
        handler: Any = grpc.unary_unary_rpc_method_handler(behave)

        async def continuation(_details: Any) -> Any:
            return handler

        around: Any = await AioServerInterceptor().intercept_service(continuation, DETAILS)
        with pytest.raises(Aborted):
            await around.unary_unary(b"question", context)

    asyncio.run(check())

    assert [status.code for status in context.statuses] == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert begun == []


def test_each_method_has_its_own_handler_however_many_there_are() -> None:
    interceptor = SyncServerInterceptor()

    def call(method: str, answer: bytes) -> bytes:
        handler: Any = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
        details: Any = SimpleNamespace(method=method)
        around: Any = interceptor.intercept_service(lambda _: handler, details)
        answered: bytes = around.unary_unary(b"question", HeldContext(remaining_s=60.0))
        return answered

    names = [str(place) for place in range(2 * MAX_KEPT)]
    answers = [call(f"/test.Service/{name}", name.encode()) for name in names]
    again = [call(f"/test.Service/{name}", b"new " + name.encode()) for name in names]

    assert answers == [name.encode() for name in names]
    assert again == [b"new " + name.encode() for name in names]
