"""`python -m meshctl.drills.heartbeat FILE CORE...`: notes when the machine stood still for it.

It sleeps 1 ms at a time. When it wakes more than 5 ms late, these cores had no
time for anybody: a virtual machine that lost its processor, or somebody else's
work. A late answer that such a stall overlaps says nothing about the mesh.
"""

import os
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshctl.drills.records import Record

BEAT_S = 0.001
STALL_S = 0.005


@dataclass(frozen=True, slots=True)
class Stalls:
    """When nothing ran: intervals in seconds of the monotonic clock, merged, in order."""

    intervals: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, intervals: Iterable[tuple[float, float]]) -> "Stalls":
        """Merge intervals that overlap."""
        merged: list[tuple[float, float]] = []
        for began_s, ended_s in sorted(intervals):
            if merged and began_s <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], ended_s))
            else:
                merged.append((began_s, ended_s))
        return cls(tuple(merged))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Stalls":
        """Read what heartbeat processes wrote; a file that is not there has none."""
        lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
        return cls.of((float(began), float(ended)) for began, ended in map(str.split, lines))

    def overlap(self, record: Record) -> bool:
        """Tell whether a stall fell into the time of a request."""
        # Merged and in order: the first that ends after the request's begin is the only candidate.
        place = bisect_left(self.intervals, record.began_s, key=lambda interval: interval[1])
        return place < len(self.intervals) and self.intervals[place][0] <= record.ended_s

    def total_s(self) -> float:
        """Return how long nothing ran."""
        return sum(ended_s - began_s for began_s, ended_s in self.intervals)


def beat(path: Path, cores: Sequence[int]) -> None:
    """Write a line `BEGAN ENDED` for every stall, until the process is ended."""
    os.sched_setaffinity(0, cores)
    with path.open("w", buffering=1, encoding="ascii") as stalls:
        before_s = time.monotonic()
        while True:
            time.sleep(BEAT_S)
            now_s = time.monotonic()
            if now_s - before_s - BEAT_S > STALL_S:
                stalls.write(f"{before_s + BEAT_S:.6f} {now_s:.6f}\n")
            before_s = now_s


if __name__ == "__main__":
    beat(Path(sys.argv[1]), [int(core) for core in sys.argv[2:]])
