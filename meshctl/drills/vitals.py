"""Memory and processor time of processes, from /proc, and how they grow."""

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_MAX_PAIRS = 50_000
"""More pairs move the median by less than it moves from run to run."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One process at one moment of the monotonic clock."""

    at_s: float
    rss_bytes: int
    cpu_s: float


def vitals_of(pid: int) -> Vitals | None:
    """Return how a process is; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name, in parentheses, may hold spaces and parentheses itself.
    user_ticks, system_ticks = stat.rpartition(")")[2].split()[11:13]
    cpu_s = (int(user_ticks) + int(system_ticks)) * _TICK_S
    return Vitals(time.monotonic(), pages * _PAGE_BYTES, cpu_s)


class VitalsLog:
    """Notes the vitals of named processes every `every_s` while its block runs."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], *, every_s: float = 0.5) -> None:
        self._pids = pids
        self._every_s = every_s
        self._notes: dict[str, list[Vitals]] = {}
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_ended.set()
        self._thread.join()

    def of(self) -> Mapping[str, Sequence[Vitals]]:
        """Return the notes of each process, in order of time."""
        return {name: tuple(notes) for name, notes in self._notes.items()}

    def _run(self) -> None:
        while True:
            for name, pid in self._pids().items():
                vitals = vitals_of(pid)
                if vitals is not None:
                    self._notes.setdefault(name, []).append(vitals)
            if self._is_ended.wait(self._every_s):
                return


def growth_bytes(notes: Sequence[Vitals]) -> int:
    """Return how far the memory ever rose above the first note."""
    return max((note.rss_bytes for note in notes), default=0) - (notes[0].rss_bytes if notes else 0)


def cpu_between(notes: Sequence[Vitals], from_s: float, to_s: float) -> float:
    """Return the processor time, in seconds, spent between the notes nearest to two moments."""
    if not notes:
        return 0.0
    first = min(notes, key=lambda note: abs(note.at_s - from_s))
    last = min(notes, key=lambda note: abs(note.at_s - to_s))
    return last.cpu_s - first.cpu_s


def theil_sen(points: Iterable[tuple[float, float]], *, seed: int = 1) -> float:
    """Return the median of the slopes between pairs of (x, y); 0 without two different x.

    H. Theil (1950), P. K. Sen (1968): up to 29 % of the points may be anything.
    Of many pairs a random part is taken, the same every time.
    """
    xy = list(points)
    pairs = ((a, b) for number, a in enumerate(xy) for b in xy[:number])
    if len(xy) * (len(xy) - 1) // 2 > _MAX_PAIRS:
        draw = random.Random(seed)  # noqa: S311 - statistics, not secrets
        pairs = ((draw.choice(xy), draw.choice(xy)) for _ in range(_MAX_PAIRS))
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairs if x0 != x1]
    return statistics.median(slopes) if slopes else 0.0
