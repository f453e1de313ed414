"""The one clock that ages, decay and expiry read."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time that the data is served as of."""

    def now_s(self) -> float:
        """Return unix time in seconds."""
        ...


class WallClock:
    """The machine's own time."""

    def now_s(self) -> float:
        """Return unix time in seconds."""
        return time.time()


class FixedClock:
    """A time that never moves: the end of a log that ended long ago, or a test's."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """Return the unix time in seconds that this clock was made with."""
        return self._now_s
