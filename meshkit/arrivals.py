"""How long calls waited before a server's event loop saw them, told from the time they have left.

How this works. A loop that is behind leaves calls queued inside gRPC, where it cannot count them.
They have no place and no latency there, only less and less of their time: a server that knows
nothing of it answers each call just before its caller gives up. But callers of one connection set
much the same deadline on all calls, so what a call has less than the most that its connection
brought lately is what it waited. One call may have had less from the start. When most have waited,
there is a standing queue, and what waited is better refused than answered (Nichols and Jacobson,
"Controlling Queue Delay", ACM Queue 2012).
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from statistics import median

TARGET_S = 0.015
"""Wait beyond which a call is late before it began; below it is the noise of a busy core."""
RECENT = 16
"""Calls that are looked at."""
PROMPT = 3
"""Of those, at most so many came at once while there is a standing queue."""
RECENT_S = 0.5
"""Seconds in which those calls came; fewer make no queue."""
REMEMBERED_S = 60.0
"""Seconds after which a connection's most is forgotten, or twice as many."""
MAX_PEERS = 1024


class Arrivals:
    """Tells how long calls waited; for one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._most: OrderedDict[str, _Most] = OrderedDict()
        self._waits: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def wait_s(self, peer: str, remaining_s: float) -> float:
        """Return how long a call of `peer` waited that has `remaining_s` left, and remember it."""
        now_s = self._monotonic()
        most = self._most.get(peer)
        if most is None:
            most = self._most[peer] = _Most(remaining_s, now_s)
            if len(self._most) > MAX_PEERS:
                self._most.popitem(last=False)
        waited_s = most.less(remaining_s, now_s)
        self._waits.append((now_s, waited_s))
        return waited_s

    def are_queued(self) -> bool:
        """Tell whether most calls waited too long before they were seen."""
        recent = self._recent_waits_s()
        return len(recent) >= RECENT and sum(each <= TARGET_S for each in recent) <= PROMPT

    def usual_wait_s(self) -> float:
        """Return how long recent calls waited before they were seen, in the middle; 0 of few."""
        recent = self._recent_waits_s()
        return median(recent) if len(recent) >= RECENT else 0.0

    def _recent_waits_s(self) -> list[float]:
        if not self._waits or self._monotonic() - self._waits[0][0] > RECENT_S:
            return []
        return [waited_s for _, waited_s in self._waits]


class _Most:
    """The most that calls of one connection had left, of this period and the last."""

    __slots__ = ("_before_s", "_began_s", "_most_s")

    def __init__(self, remaining_s: float, now_s: float) -> None:
        self._before_s = self._most_s = remaining_s
        self._began_s = now_s

    def less(self, remaining_s: float, now_s: float) -> float:
        """Return how much less than the most `remaining_s` is, in seconds, never below 0."""
        if now_s - self._began_s > REMEMBERED_S:
            self._before_s, self._most_s, self._began_s = self._most_s, remaining_s, now_s
        self._most_s = max(self._most_s, remaining_s)
        return max(self._most_s, self._before_s) - remaining_s
