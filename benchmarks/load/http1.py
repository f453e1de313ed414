"""HTTP/1.1 as far as a load on one endpoint needs it: one call at a time on a connection."""

import re
from collections.abc import Iterator

from benchmarks.load.wire import Arrived, WireError

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_OK = b"HTTP/1.1 200 "
_END = b"\r\n\r\n"


class Http1:
    """POSTs JSON to one path of one server."""

    def __init__(self, address: str, path: str) -> None:
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
            "content-length: "
        ).encode()
        self._caller = 0
        self._came = b""

    def greeting(self) -> bytes:
        """Return nothing: HTTP/1.1 has none."""
        return b""

    def call(self, caller: int, body: bytes) -> bytes:
        """Return one request."""
        self._caller = caller
        return b"%s%d%s%s" % (self._head, len(body), _END, body)

    def receive(self, data: bytes) -> Iterator[Arrived]:
        """Yield the call that ends with `data`, if it does."""
        self._came += data
        head, is_whole, body = self._came.partition(_END)
        if not is_whole:
            return
        length = _LENGTH.search(head + b"\r\n")
        if length is None:
            raise WireError(f"an answer without a content-length: {head[:80]!r}")
        if len(body) >= int(length[1]):
            self._came = b""
            is_ok = head.startswith(_OK) and len(body) > 0
            yield Arrived(self._caller, body if is_ok else None)

    def owed(self) -> bytes:
        """Return nothing."""
        return b""
