"""What a closed loop needs of a protocol: bytes to send for a call, and answers in what came."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Arrived(NamedTuple):
    """One call that ended."""

    caller: int
    body: bytes | None
    """The answer; None for an error."""


class Wire(Protocol):
    """One connection's protocol; it reads and writes nothing itself."""

    def greeting(self) -> bytes:
        """Return what is sent first."""
        ...

    def call(self, caller: int, body: bytes) -> bytes:
        """Return the bytes of a call; a caller has one call at a time."""
        ...

    def receive(self, data: bytes) -> Iterator[Arrived]:
        """Yield the calls that end with `data`. Raises WireError."""
        ...

    def owed(self) -> bytes:
        """Return what is to be sent besides calls, once."""
        ...


class WireError(Exception):
    """The connection is of no use any more; the message says why."""
