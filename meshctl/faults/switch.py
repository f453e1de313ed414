"""What is injected now: follows the control file while the proxy runs."""

import asyncio
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

from meshctl.faults.fault import NO_FAULT, FaultLevel
from meshctl.faults.order import NO_ORDER, Order, generation_in, parse_order
from meshctl.faults.tally import Tally

POLL_S = 0.02
POLLS_A_WRITE = 5
"""Counts are written every 100 ms at most, and when another order comes into force."""

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None


class Switch:
    """Holds the fault in force and tells `on_change`, set by the relay, when it changes."""

    def __init__(self, level: FaultLevel, path: Path | None, tally: Tally) -> None:
        self.fault = NO_FAULT
        self.on_change: Callable[[], None] = _nothing
        self._level = level
        self._path = path
        self._tally = tally
        self._stamp: _Stamp = None
        # The same run twice hits the same calls, as far as they come in the same order. Two
        # proxies must not hit alike: a call made again elsewhere would meet its fault again.
        self._random = random.Random(str(path))  # noqa: S311 - nothing to keep secret

    async def watch(self) -> None:
        """Follow the control file until cancelled; a bad one keeps what was in force."""
        polls = 0
        while True:
            polls += 1
            if self.look() or polls % POLLS_A_WRITE == 0:
                self._tally.write()
            await asyncio.sleep(POLL_S)

    def look(self) -> bool:
        """Take over what the control file says; tell whether it had been touched."""
        if self._path is None:
            return False
        stamp = _stamp_of(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._take(_read(self._path, self._level))
        except (OSError, ValueError) as exc:
            self._refuse(self._path, str(exc))
        return True

    def hits(self) -> bool:
        """Draw whether the fault in force hits the call at hand."""
        return self.fault.share == 1 or self._random.random() < self.fault.share

    def draw_delay_s(self) -> float:
        """Draw how long to hold what is at hand; 0 when nothing is held."""
        return self._random.uniform(*self.fault.delay_s) if self.fault.delay_s else 0.0

    def draw_bytes(self, size: int) -> bytes:
        """Draw `size` bytes."""
        return self._random.randbytes(size)

    def _take(self, order: Order) -> None:
        if order.fault != self.fault:
            self.fault = order.fault
            _log.info("generation %d: %s", order.generation, order.fault.as_fields())
            self.on_change()
        self._tally.applied = order.generation
        self._tally.refused, self._tally.refused_generation = "", 0

    def _refuse(self, path: Path, why: str) -> None:
        _log.error("%s is ignored, and what it said before stays: %s", path, why)
        self._tally.refused = why
        self._tally.refused_generation = _claimed_generation(path)


def _stamp_of(path: Path) -> _Stamp:
    """Return what changes whenever the file is written; None without the file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - fifty times a second; Path.stat costs twice as much
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path, level: FaultLevel) -> Order:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return NO_ORDER
    return parse_order(text, level)


def _claimed_generation(path: Path) -> int:
    try:
        return generation_in(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return 0


def _nothing() -> None:
    """Stand in for a relay that has not started."""
