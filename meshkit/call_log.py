"""A server's own record of which version answered which call, for drills; off unless asked for."""

import os
import time
from pathlib import Path

from meshkit.telemetry import current_ids


class CallLog:
    """Appends a line to a file that all processes of a machine share; None records nothing.

    A line is `seconds event service pid trace_id version`, the seconds on the machine's
    monotonic clock. A line is written at once, so lines of several processes never mix.
    """

    def __init__(self, path: Path | None, service: str) -> None:
        self._service = service
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = None if path is None else os.open(path, flags, 0o644)

    def note(self, event: str, version: str) -> None:
        """Record that the current span's call, if there is one, had `event` with `version`."""
        if self._file is not None:
            at_s, trace_id = time.monotonic(), current_ids().trace_id
            line = f"{at_s:.6f} {event} {self._service} {os.getpid()} {trace_id} {version}\n"
            os.write(self._file, line.encode())
