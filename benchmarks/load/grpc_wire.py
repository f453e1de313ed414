"""gRPC's unary calls over HTTP/2 as far as a load on one method needs them.

Many calls share the connection, as in a channel. Answers' headers are not decoded: a unary call
that failed has no message (RFC 9113 for frames, gRPC's PROTOCOL-HTTP2.md for the rest), and
whoever reads the message later sees what it says.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.load.wire import Arrived, WireError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_WINDOW_UPDATE = 8
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_INITIAL_WINDOW_SIZE = 4
_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_HEAD_BYTES = 9
_MESSAGE_HEAD_BYTES = 5
_LONGEST_SHORT = 126
"""Longest string whose length HPACK writes in one byte."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    encoded = text.encode("ascii")
    if len(encoded) > _LONGEST_SHORT:
        raise ValueError(f"a header has {len(encoded)} bytes; at most {_LONGEST_SHORT} are written")
    return bytes([len(encoded)]) + encoded


def _headers(address: str, path: str, timeout_s: int) -> bytes:
    """Return a call's header block: HPACK literals without index, beside `POST` and `http`."""
    named = {"te": "trailers", "content-type": "application/grpc", "grpc-timeout": f"{timeout_s}S"}
    literals = (b"\x00" + _text(name) + _text(value) for name, value in named.items())
    pseudo = b"\x83\x86\x04" + _text(path) + b"\x01" + _text(address)
    return pseudo + b"".join(literals)


@dataclass(slots=True)
class _Call:
    caller: int
    came: bytes = b""


class GrpcWire:
    """Calls one unary method of one server; `timeout_s` is every call's deadline."""

    def __init__(self, address: str, path: str, timeout_s: int) -> None:
        self._headers = _headers(address, path, timeout_s)
        self._next_stream = 1
        self._calls: dict[int, _Call] = {}
        self._came = b""
        self._owed = b""

    def greeting(self) -> bytes:
        """Return the preface, with windows that no load of ours fills."""
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WINDOW)
        wider = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
        return _PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, wider)

    def call(self, caller: int, body: bytes) -> bytes:
        """Return one call."""
        stream = self._next_stream
        self._next_stream += 2
        self._calls[stream] = _Call(caller)
        message = struct.pack(">BI", 0, len(body)) + body
        return frame(_HEADERS, _END_HEADERS, stream, self._headers) + frame(
            _DATA, _END_STREAM, stream, message
        )

    def receive(self, data: bytes) -> Iterator[Arrived]:
        """Yield the calls that end with `data`."""
        came = self._came + data
        at = 0
        while len(came) - at >= _HEAD_BYTES:
            length = int.from_bytes(came[at : at + 3], "big")
            if len(came) - at < _HEAD_BYTES + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", came, at + 3)
            at += _HEAD_BYTES
            arrived = self._take(kind, flags, stream, came[at : at + length])
            at += length
            if arrived:
                yield arrived
        self._came = came[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Arrived | None:
        if kind == _GOAWAY:
            raise WireError(f"the server closes the connection: {payload[8:]!r}")
        if kind == _SETTINGS and not flags & _ACK:
            self._owed += frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._owed += frame(_PING, _ACK, 0, payload)
        elif kind == _RESET:
            return self._end(stream, is_reset=True)
        elif kind == _DATA:
            self._calls[stream].came += _unpadded(payload, flags)
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return self._end(stream, is_reset=False)
        return None

    def _end(self, stream: int, *, is_reset: bool) -> Arrived | None:
        call = self._calls.pop(stream, None)
        if call is None:  # a server may reset a stream after its trailers
            return None
        is_ok = not is_reset and len(call.came) > _MESSAGE_HEAD_BYTES
        return Arrived(call.caller, call.came[_MESSAGE_HEAD_BYTES:] if is_ok else None)

    def owed(self) -> bytes:
        """Return acknowledgements."""
        owed, self._owed = self._owed, b""
        return owed


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
