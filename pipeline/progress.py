"""Progress: showing that training runs, and what its steps took."""

import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar

KIB_PER_MIB = 1024
PROCESS = Path("/proc/self/status")

T = TypeVar("T")


class Progress(Protocol):
    """Shows what training does; every method may do nothing."""

    def step(self, description: str) -> AbstractContextManager[None]:
        """Show that one step runs, for as long as the block does."""
        ...

    def track(self, things: Sequence[T], description: str) -> Iterable[T]:
        """Yield `things` and show how many are done."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """What one step took."""

    description: str
    seconds: float
    peak_mib: float
    """The most memory that the process had held at once by the end of the step, its own and what
    it mapped: the steps that needed much are those where it rises."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MeasuredSteps:
    """Progress that hands on to another, and measures."""

    shown: Progress
    taken: list[MeasuredStep] = field(default_factory=list)
    """In the order that they ended; one that failed is not among them."""

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Measure the block."""
        began_s = perf_counter()
        with self.shown.step(description):
            yield
        self._add(description, began_s)

    def track(self, things: Sequence[T], description: str) -> Iterable[T]:
        """Yield `things`, and measure until the last has been used."""
        began_s = perf_counter()
        yield from self.shown.track(things, description)
        self._add(description, began_s)

    def _add(self, description: str, began_s: float) -> None:
        seconds = round(perf_counter() - began_s, 3)
        # Linux adds up the memory of threads now and then, so what it says may fall a little.
        known = self.taken[-1].peak_mib if self.taken else 0.0
        self.taken.append(MeasuredStep(description, seconds, max(known, round(peak_mib(), 1))))


def peak_mib() -> float:
    """Return the most memory that this process has held at once.

    `ru_maxrss` only where there is no better: it begins with what the parent held when it started
    this process.
    """
    if PROCESS.exists():
        lines = (line.split() for line in PROCESS.read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / KIB_PER_MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB
