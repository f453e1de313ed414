"""One accepted connection (the caller's) and the one that was opened to the server for it.

All links run in one event loop, so a change of fault falls between two chunks.
"""

import asyncio
import socket
import struct
from collections import deque
from typing import cast

from meshctl.faults.fault import FaultKind
from meshctl.faults.switch import Switch
from meshctl.faults.tally import Tally

_LINGER_ZERO = struct.pack("ii", 1, 0)


class Link:
    """Two connections and what is held between them; among `links` until it is closed."""

    __slots__ = (
        "_caller",
        "_connecting",
        "_held",
        "_is_server_done",
        "_is_spoiled",
        "_links",
        "_server",
        "_switch",
        "_tally",
        "_timer",
        "_upstream",
    )

    def __init__(
        self, upstream: tuple[str, int], switch: Switch, tally: Tally, links: "set[Link]"
    ) -> None:
        self._upstream = upstream
        self._switch = switch
        self._tally = tally
        self._links = links
        self._caller: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        # Bounded by the peers: HTTP/2 sends no more than its window until the other side answers.
        self._held: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_server_done = False
        self._is_spoiled = False

    def accept(self, caller: asyncio.Transport) -> None:
        """Begin with the caller's connection."""
        self._caller = caller
        self._links.add(self)
        self._tally.add_connection()
        kind = self._switch.fault.kind
        if kind is FaultKind.RESET:
            self._reset()
        elif kind is FaultKind.BLACK_HOLE:
            self._is_spoiled = True
        else:
            caller.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def attach(self, server: asyncio.Transport) -> None:
        """Go on with the connection to the server."""
        if self not in self._links:  # aborted just when it was there
            server.abort()
            return
        self._server = server
        if self._caller is not None:
            self._caller.resume_reading()

    def to_server(self, chunk: bytes) -> None:
        """Pass on what the caller sent."""
        if self._switch.fault.kind is FaultKind.BLACK_HOLE:
            self._tally.add_fault(FaultKind.BLACK_HOLE)
        elif self._server is not None:
            self._server.write(chunk)

    def to_caller(self, chunk: bytes) -> None:
        """Pass on what the server sent, or what the fault makes of it."""
        kind = self._switch.fault.kind
        if kind is FaultKind.NONE:
            self._write(chunk)
            return
        self._tally.add_fault(kind)
        if kind is FaultKind.DELAY:
            self._hold(chunk)
        elif kind is FaultKind.GARBAGE:
            self._is_spoiled = True
            self._write(self._switch.draw_bytes(len(chunk)))

    def change(self) -> None:
        """Obey the fault that is in force from now on."""
        kind = self._switch.fault.kind
        if kind is FaultKind.RESET:
            self._reset()
        elif self._is_spoiled:
            self.abort()
        elif kind is FaultKind.BLACK_HOLE:
            self._is_spoiled = True
            self._forget_held()
        else:
            self._release(until_s=float("inf"))

    def lose_caller(self) -> None:
        """Pass on that the caller's connection ended, unless nothing passes."""
        if self._caller is None:
            return
        self._caller = None
        self._tally.drop_connection()
        if self._switch.fault.kind is not FaultKind.BLACK_HOLE:
            self.abort()

    def lose_server(self) -> None:
        """Pass on that the server's connection ended, after what it sent before."""
        self._server = None
        if self._switch.fault.kind is FaultKind.BLACK_HOLE:
            return
        self._is_server_done = True
        self._release(until_s=asyncio.get_running_loop().time())

    def pause(self, *, is_caller_full: bool) -> None:
        """Read no more from one side while the other takes nothing."""
        source = self._server if is_caller_full else self._caller
        if source is not None:
            source.pause_reading()

    def resume(self, *, is_caller_full: bool) -> None:
        """Read again."""
        source = self._server if is_caller_full else self._caller
        if source is not None:
            source.resume_reading()

    def abort(self) -> None:
        """Close both connections now and drop what is held."""
        self._links.discard(self)
        self._forget_held()
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        for transport in (self._caller, self._server):
            if transport is not None:
                transport.abort()

    def _reset(self) -> None:
        if self._caller is not None:
            self._tally.add_fault(FaultKind.RESET)
            _close_by_reset(self._caller)
        self.abort()

    async def _connect(self) -> None:
        host, port = self._upstream
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _ServerSide(self), host, port)
        except OSError:
            # As near as an accepted connection gets to a refused one.
            _close_by_reset(self._caller)
            self.abort()

    def _write(self, chunk: bytes) -> None:
        if self._caller is not None:
            self._caller.write(chunk)

    def _hold(self, chunk: bytes) -> None:
        due_s = asyncio.get_running_loop().time() + self._switch.draw_delay_s()
        self._held.append((due_s, chunk))
        if self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        due_s = self._held[0][0]
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(due_s, self._release, due_s)

    def _release(self, until_s: float) -> None:
        """Write what is due by `until_s`, and close when the server has nothing more to say.

        A chunk waits for those before it.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._held and self._held[0][0] <= until_s:
            self._write(self._held.popleft()[1])
        if self._held:
            self._schedule()
        elif self._is_server_done and self._caller is not None:
            self._caller.close()

    def _forget_held(self) -> None:
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close_by_reset(transport: asyncio.Transport | None) -> None:
    """Close with RST instead of FIN."""
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()


class CallerSide(asyncio.Protocol):
    """The connection that was accepted."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the link."""
        self._link.accept(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Hand over what the caller sent."""
        self._link.to_server(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Hand over that the connection ended."""
        self._link.lose_caller()

    def pause_writing(self) -> None:
        """Hand over that the caller takes no more for now."""
        self._link.pause(is_caller_full=True)

    def resume_writing(self) -> None:
        """Hand over that the caller takes more again."""
        self._link.resume(is_caller_full=True)


class _ServerSide(asyncio.Protocol):
    """The connection that was opened to the server."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.attach(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._link.to_caller(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._link.lose_server()

    def pause_writing(self) -> None:
        self._link.pause(is_caller_full=False)

    def resume_writing(self) -> None:
        self._link.resume(is_caller_full=False)
