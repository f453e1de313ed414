"""A closed loop: so many callers, each asking again once it is answered."""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load.wire import Arrived, Wire, WireError

READ_BYTES = 1 << 18
CONNECT_S = 5.0
SILENCE_S = 10.0
"""How long nothing may come before the load gives up, in seconds."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One call that ended while it was measured."""

    request: int
    """Place of its body among the bodies."""
    latency_s: float
    body: bytes | None
    """The answer; None for an error."""


@dataclass(slots=True)
class _Caller:
    wire: Wire
    connection: socket.socket
    request: int = -1
    began_s: float = 0.0


@dataclass(slots=True)
class ClosedLoop:
    """The callers and their connections; bodies are asked in turn, over and over."""

    bodies: Sequence[bytes]
    callers: list[_Caller] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    _asked: int = 0
    _waiting: int = 0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def connect(self, address: str, wire: Wire, callers: int) -> None:
        """Open a connection that so many callers share."""
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)), CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(wire.greeting())
        first = len(self.callers)
        self.callers.extend(_Caller(wire, connection) for _ in range(callers))
        self._selector.register(connection, selectors.EVENT_READ, self.callers[first])

    def run(self, wants_more: Callable[[], bool]) -> None:
        """Ask until `wants_more` says no; return when every answer has come. Raises WireError."""
        for number in range(len(self.callers)):
            if wants_more():
                self._ask(number)
        while self._waiting:
            self._turn(wants_more)

    def close(self) -> None:
        """Close the connections."""
        for connection in {caller.connection for caller in self.callers}:
            connection.close()
        self._selector.close()

    def asked(self) -> int:
        """Return how many calls were begun."""
        return self._asked

    def _turn(self, wants_more: Callable[[], bool]) -> None:
        events = self._selector.select(SILENCE_S)
        if not events:
            raise WireError(f"no answer for {SILENCE_S:g} s; {self._waiting} calls wait")
        for key, _ in events:
            caller: _Caller = key.data
            data = caller.connection.recv(READ_BYTES)
            if not data:
                raise WireError("the server closed a connection")
            now_s = time.perf_counter()
            for arrived in list(caller.wire.receive(data)):
                self._note(arrived, now_s)
                if wants_more():
                    self._ask(arrived.caller)
            if owed := caller.wire.owed():
                caller.connection.sendall(owed)

    def _note(self, arrived: Arrived, now_s: float) -> None:
        caller = self.callers[arrived.caller]
        self._waiting -= 1
        self.ended.append(Ended(caller.request, now_s - caller.began_s, arrived.body))

    def _ask(self, number: int) -> None:
        caller = self.callers[number]
        caller.request = self._asked % len(self.bodies)
        self._asked += 1
        self._waiting += 1
        caller.began_s = time.perf_counter()
        caller.connection.sendall(caller.wire.call(number, self.bodies[caller.request]))
