"""Drives a fault proxy from another process: set a fault, wait until it is in force, count."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshctl.faults.counts import Counts, read_counts
from meshctl.faults.fault import NO_FAULT, Fault
from meshctl.faults.order import generation_in
from meshctl.json_file import write_json

APPLY_DEADLINE_S = 30.0
"""The proxy looks every 20 ms; the rest is for a busy machine."""
_POLL_S = 0.01


class FaultControlError(Exception):
    """The proxy refused a fault, or did not apply it in time; the message says which and why."""


class FaultControl:
    """Writes the control file at `path`, the proxy's RECMESH_FAULT_FILE. One driver a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fault = NO_FAULT
        self._generation = max(_generation_in(path), read_counts(path).applied)

    def set(self, fault: Fault) -> None:
        """Ask for `fault` instead of whatever there was."""
        self._generation += 1
        write_json(self.path, {"generation": self._generation, **fault.as_fields()})
        self._fault = fault

    def clear(self) -> None:
        """Ask for no fault."""
        self.set(NO_FAULT)

    def wait_applied(self, timeout_s: float = APPLY_DEADLINE_S) -> None:
        """Return when what was set last is in force. Raises FaultControlError."""
        expires_at_s = time.monotonic() + timeout_s
        while (counts := read_counts(self.path)).applied < self._generation:
            if counts.refused_generation == self._generation:
                raise FaultControlError(f"{self.path}: {counts.refused}")
            if time.monotonic() > expires_at_s:
                raise FaultControlError(
                    f"{self.path}: the proxy did not apply generation {self._generation} within "
                    f"{timeout_s:g} s (it has {counts.applied}; does it run?) {counts.refused}"
                )
            time.sleep(_POLL_S)

    def counts(self) -> Counts:
        """Return what the proxy wrote last, at most 100 ms old while it runs."""
        return read_counts(self.path)

    def fresh_counts(self, timeout_s: float = APPLY_DEADLINE_S) -> Counts:
        """Return counts taken after this was called; the fault stays. Raises FaultControlError."""
        self.set(self._fault)
        self.wait_applied(timeout_s)
        return self.counts()

    @contextmanager
    def injected(self, fault: Fault, timeout_s: float = APPLY_DEADLINE_S) -> Iterator[None]:
        """Keep `fault` in force while the block runs; afterwards none is."""
        self.set(fault)
        try:
            self.wait_applied(timeout_s)
            yield
        finally:
            self.clear()
        self.wait_applied(timeout_s)


def _generation_in(path: Path) -> int:
    """Return the generation that an earlier driver got to; 0 when there was none."""
    try:
        return generation_in(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return 0
