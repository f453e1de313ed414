"""The common time axis of a waterfall, and the bars on it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from meshctl.traces.span import Span

_REACH = 4  # times the length of the whole, before and after it; beyond it a clock is wrong
_REACH_NS = 1_000_000_000  # where the span that holds the others is missing
_SHORTEST_NS = 1000  # so that a whole of no length has an axis


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """From one moment to another, both in ns since 1970."""

    start_ns: int
    end_ns: int

    def bar(self, span: Span, width: int, block: str = "█") -> str:
        """Return a bar of `width` cells: at least one of them is filled, or points outside."""
        first_ns, last_ns = sorted((span.start_ns, span.end_ns))
        if last_ns < self.start_ns:
            return "<".ljust(width)
        if first_ns > self.end_ns:
            return ">".rjust(width)
        first = min(math.floor(self._share(max(first_ns, self.start_ns)) * width), width - 1)
        last = math.ceil(self._share(min(last_ns, self.end_ns)) * width)
        filled = max(1, last - first)
        return (" " * first + block * filled).ljust(width)

    def _share(self, time_ns: int) -> float:
        return (time_ns - self.start_ns) / (self.end_ns - self.start_ns)


def axis_of(head: Span, spans: Iterable[Span], *, is_whole: bool = True) -> TimeAxis:
    """Return the axis on which `head` and all spans not far from it can be drawn.

    `is_whole` says that `head` is the span that holds the others.
    """
    start_ns, end_ns = sorted((head.start_ns, head.end_ns))
    end_ns = max(end_ns, start_ns + _SHORTEST_NS)
    reach_ns = max(_REACH * (end_ns - start_ns), 0 if is_whole else _REACH_NS)
    earliest_ns, latest_ns = start_ns - reach_ns, end_ns + reach_ns
    moments = [moment for span in spans for moment in (span.start_ns, span.end_ns)]
    near = [moment for moment in moments if earliest_ns <= moment <= latest_ns]
    return TimeAxis(min([start_ns, *near]), max([end_ns, *near]))
