"""Which process a pid meant when it was written down."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid with the moment its process started, since pids come again.

    `started` is `<boot id>/<clock ticks since boot>`; empty where the system
    has no /proc, and then the pid alone decides.
    """

    pid: int
    started: str = ""

    def is_alive(self) -> bool:
        """Tell whether that very process still runs; a zombie does not."""
        if not self.started:
            return _answers_signals(self.pid)
        return _started(self.pid) == self.started


def identify(pid: int) -> ProcessIdentity:
    """Return the identity of the process that has `pid` now."""
    return ProcessIdentity(pid, _started(pid) or "")


def _answers_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The program's name, in parentheses, may hold spaces and parentheses itself.
    after_name = stat.rpartition(")")[2].split()
    state, start_ticks = after_name[0], after_name[19]
    return None if state in {"Z", "X"} else f"{boot_id}/{start_ticks}"
