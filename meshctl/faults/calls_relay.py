"""A relay of gRPC calls, as bytes, that can refuse, hold and spoil the mesh's own.

Calls keep their metadata, deadline, cancellation and status. Methods under `/recmesh.` and
Health/Check are relayed as unary, all others as server streams. What gRPC hides from a client does
not pass: the load report in the trailer `endpoint-load-metrics-bin`, and pings of the caller, which
the proxy answers itself.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from meshctl.faults.fault import FaultKind
from meshctl.faults.switch import Switch
from meshctl.faults.tally import Tally, is_mesh_method
from meshkit.addresses import with_port

RUBBISH_BYTES = 256
"""Enough that no message type takes random bytes for its own."""

_CLOCK_TICKS_S = 0.002  # gRPC rounds both now and the deadline to its clock of 1 ms
_CHECK = "/grpc.health.v1.Health/Check"
_ATTEMPTS_KEY = "grpc-previous-rpc-attempts"
_UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # Callers may ping as often as they like: whether the server minds is not ours to decide.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    *_UNLIMITED,
)
_CHANNEL_OPTIONS = (
    ("grpc.enable_retries", 0),  # retries are the caller's
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),  # a healed server is not to look ill because of us
    *_UNLIMITED,
)

_Metadata = tuple[tuple[str, str | bytes], ...]
_Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
_Stream = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"  # no generic type at run time
_Context = grpc.aio.ServicerContext[bytes, bytes]


class CallsRelay:
    """Relays every call to `upstream` (`host:port`) as the switch says."""

    def __init__(self, upstream: str, switch: Switch, tally: Tally) -> None:
        self._channel = grpc.aio.insecure_channel(upstream, options=_CHANNEL_OPTIONS)
        self._server = grpc.aio.server(options=_SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((_AnyMethod(self._channel, switch, tally),))

    async def start(self, listen: str) -> str:
        """Listen at `listen` and return the address bound. Raises OSError."""
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as exc:
            raise OSError(str(exc)) from exc
        await self._server.start()
        return with_port(listen, port)

    async def stop(self) -> None:
        """Stop listening and end every call."""
        await self._server.stop(0)
        await self._channel.close()


class _AnyMethod(grpc.GenericRpcHandler):
    """Finds a relay for whatever method is called, and keeps it."""

    def __init__(self, channel: grpc.aio.Channel, switch: Switch, tally: Tally) -> None:
        self._channel = channel
        self._switch = switch
        self._tally = tally
        self._handlers: dict[str, _Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        method = handler_call_details.method
        if method not in self._handlers:
            self._handlers[method] = self._handler_of(method)
        return self._handlers[method]

    def _handler_of(self, method: str) -> _Handler:
        if is_mesh_method(method):
            relay = _MeshMethod(self._channel, method, self._switch, self._tally)
            return grpc.unary_unary_rpc_method_handler(relay.relay)
        other = _OtherMethod(self._channel, method, self._tally)
        if method == _CHECK:
            return grpc.unary_unary_rpc_method_handler(other.relay)
        return grpc.unary_stream_rpc_method_handler(other.relay_stream)


class _MeshMethod:
    """A method of the mesh: counted, and hit by faults."""

    def __init__(
        self, channel: grpc.aio.Channel, method: str, switch: Switch, tally: Tally
    ) -> None:
        self._call: _Unary = channel.unary_unary(method)
        self._method = method
        self._switch = switch
        self._tally = tally

    async def relay(self, request: bytes, context: _Context) -> bytes:
        """Answer as the server does, unless the fault in force hits the call."""
        metadata = context.invocation_metadata() or ()
        remaining_s = context.time_remaining()
        is_retry = any(key == _ATTEMPTS_KEY for key, _ in metadata)
        self._tally.add_mesh_call(self._method, is_retry=is_retry, remaining_s=remaining_s)
        kind = self._switch.fault.kind
        if kind is FaultKind.NONE or not self._switch.hits():
            return await _pass_on(self._call, request, context)
        self._tally.add_fault(kind)
        if kind is FaultKind.UNAVAILABLE:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected fault")
        if kind is FaultKind.RUBBISH:
            return self._switch.draw_bytes(RUBBISH_BYTES)
        delay_s = self._switch.draw_delay_s()
        answer = await _pass_on(self._call, request, context)
        await asyncio.sleep(delay_s)
        return answer


class _OtherMethod:
    """A method that faults pass by, such as health."""

    def __init__(self, channel: grpc.aio.Channel, method: str, tally: Tally) -> None:
        self._call: _Unary = channel.unary_unary(method)
        self._stream: _Stream = channel.unary_stream(method)
        self._method = method
        self._tally = tally

    async def relay(self, request: bytes, context: _Context) -> bytes:
        """Answer as the server does."""
        self._tally.add_call(self._method)
        return await _pass_on(self._call, request, context)

    async def relay_stream(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        """Answer as the server does, for as long as it does and the caller listens."""
        self._tally.add_call(self._method)
        metadata = _passable(context)
        call = self._stream(request, timeout=_timeout_s(context), metadata=metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            await _fail_alike(error, context)
        finally:
            call.cancel()  # also when the caller goes while an answer is on its way


async def _pass_on(method: _Unary, request: bytes, context: _Context) -> bytes:
    """Call the server within the caller's deadline and take over its answer or status."""
    metadata = _passable(context)
    call = method(request, timeout=_timeout_s(context), metadata=metadata)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        await _fail_alike(error, context)
    if head := await call.initial_metadata():
        await context.send_initial_metadata(tuple(head))
    if trailer := await call.trailing_metadata():
        context.set_trailing_metadata(tuple(trailer))
    return answer


async def _fail_alike(error: grpc.aio.AioRpcError, context: _Context) -> None:
    trailer = tuple(error.trailing_metadata())
    await context.abort(error.code(), error.details() or "", trailer)


def _timeout_s(context: _Context) -> float | None:
    """Return the caller's remaining time, less what gRPC adds by rounding it up.

    gRPC sends milliseconds below 1 s and three digits above, so that a hop may add up to 1 %.
    """
    remaining_s = context.time_remaining()
    if remaining_s is None:
        return None
    digit_s = 10 ** (math.floor(math.log10(remaining_s)) - 2) if remaining_s >= 1 else 0.0
    return max(remaining_s - digit_s - _CLOCK_TICKS_S, 0.0)


def _passable(context: _Context) -> _Metadata:
    """Return the call's metadata without what the channel sets itself."""
    metadata = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in metadata if key != "user-agent")
