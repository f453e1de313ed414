"""What was found: the values that a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.growth.memory import Memory
from benchmarks.growth.mesh import Answered, LeafCost
from benchmarks.growth.retrieval import Retrieval


@dataclass(frozen=True, slots=True)
class Size:
    """What was found of one size of catalogue."""

    items: int
    making_s: Mapping[str, float]
    """Seconds of each step that made the bundle."""
    bytes_by_group: Mapping[str, int]
    retrieval: Retrieval
    start_s: Mapping[str, float]
    """Seconds of each process from its start to SERVING."""
    memory: Mapping[str, Memory]
    """Of each process."""
    request: Answered
    """What one caller got."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was found of candidates and callers on one size of catalogue."""

    items: int
    ranker: Sequence[LeafCost]
    retrieval: Sequence[LeafCost]
    callers: Sequence[Answered]


@dataclass(frozen=True, slots=True)
class Target:
    """What was wanted and what was found."""

    what: str
    value: float
    at_most: float

    @property
    def is_met(self) -> bool:
        """Tell whether what was found is what was wanted."""
        return self.value <= self.at_most
