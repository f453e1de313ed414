"""A relay of requests to DynamoDB that can answer in its place, or not at all.

HTTP/1.1 as far as DynamoDB's clients use it: a request has a Content-Length, an answer is passed
on as it comes. Relayed requests use a connection each, answered ones keep theirs.
"""

import asyncio
import contextlib
import re
from dataclasses import dataclass

from meshctl.faults.dynamodb_answers import ERROR_ANSWERS
from meshctl.faults.fault import FaultKind
from meshctl.faults.switch import Switch
from meshctl.faults.tally import Tally
from meshkit.addresses import split_address, with_port

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 32 * 1024 * 1024
"""DynamoDB itself takes 16 MB."""
_CHUNK_BYTES = 65_536

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_OPERATION = re.compile(rb"\r\nx-amz-target:[^\r\n]*\.(\w+)[ \t]*\r\n", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[^\r\n]*(?=\r\n)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Request:
    """One request; `head` ends with the empty line, `operation` may be empty."""

    head: bytes
    body: bytes
    operation: str

    def closing(self) -> bytes:
        """Return the request's bytes, asking for the connection to be closed after the answer."""
        head = _CONNECTION.sub(b"", self.head)
        return head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" + self.body


class DynamodbRelay:
    """Relays every request to `upstream` (`host:port`) as the switch says."""

    def __init__(self, upstream: str, switch: Switch, tally: Tally) -> None:
        self._upstream = split_address(upstream)
        self._switch = switch
        self._tally = tally
        self._changed = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> str:
        """Listen at `listen` and return the address bound. Raises OSError."""
        self._switch.on_change = self._change
        host, port = split_address(listen)
        self._server = await asyncio.start_server(self._take, host, port, limit=MAX_HEAD_BYTES)
        return with_port(listen, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _change(self) -> None:
        """Let go of every request that hangs."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream callback runs in a task
        self._connections.add(task)
        self._tally.add_connection()
        try:
            # The peer may go at any time; that is its right and no fault of ours.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            self._tally.drop_connection()
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Do what the fault in force says to one request; tell whether another may follow."""
        request = await _read_request(reader)
        if request is None:
            return False
        self._tally.add_call(request.operation)
        kind = self._switch.fault.kind
        if kind is FaultKind.NONE or not self._switch.hits():
            await self._pass_on(request, writer)
            return False
        self._tally.add_fault(kind)
        if kind is FaultKind.HANG:
            await self._changed.wait()
            return False
        writer.write(ERROR_ANSWERS[kind].encode())
        await writer.drain()
        return True

    async def _pass_on(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
        try:
            upstream.write(request.closing())
            while chunk := await upstream_reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        finally:
            upstream.close()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """Return the next request; None for one that is no HTTP or beyond the limits."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None
    length = _CONTENT_LENGTH.search(head)
    size = int(length.group(1)) if length else 0
    if size > MAX_BODY_BYTES:
        return None
    operation = _OPERATION.search(head)
    name = operation.group(1).decode("ascii") if operation else ""
    return _Request(head, await reader.readexactly(size), name)
