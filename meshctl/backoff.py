"""How long to wait before a process that ended is started again."""

FIRST_S = 0.5
LONGEST_S = 10.0
STEADY_S = 30.0
"""A process that has served this long starts over with the first pause."""


class Backoff:
    """The pauses between the lives of one process: 0.5 s, doubling to 10 s.

    An end that somebody asked for is no fault: when it comes first there is no
    pause. A process that goes on ending is slowed down however it ends.
    """

    def __init__(self) -> None:
        self._next_s: float | None = None

    def pause_s(self, *, was_asked_for: bool, served_s: float) -> float:
        """Return the pause after a life that served for `served_s`."""
        if self._next_s is None or served_s >= STEADY_S:
            pause_s = 0.0 if was_asked_for else FIRST_S
        else:
            pause_s = self._next_s
        self._next_s = min(max(2 * pause_s, FIRST_S), LONGEST_S)
        return pause_s
