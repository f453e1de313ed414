"""Counters and histograms that cost a request little, and whose series are bounded.

How this works. A record of the SDK's own instruments copies, checks and hashes its attributes:
6 us each, and one answer of a gateway makes about twenty. Here every combination of values has a
cell, found by a tuple: 0.3 us for a count, 1 us for a duration. `meshkit.telemetry.metrics`
gives the cells to the SDK when it collects.

No value from outside makes a series: a value that an attribute does not list becomes `_OTHER`.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from time import time_ns
from typing import TypeAlias

from opentelemetry import trace

OTHER = "_OTHER"
"""Stands for every value that is not listed, as OpenTelemetry's conventions have it."""
ABSENT = ""
"""A key's part for an attribute that a series does not have."""

SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Upper bounds of buckets: close from 1 to 150 ms, where answers should be, and to 5 s beyond."""
ITEMS = (0, 1, 5, 10, 20, 50, 100, 150, 200, 300, 500, 1000, 2000)
"""Upper bounds of buckets for how many items something has."""

Value: TypeAlias = str | bool
Key: TypeAlias = tuple[Value, ...]


@dataclass(slots=True)
class Label:
    """One attribute of an instrument, and the values it may have.

    Without `values` the first `most` that come are taken: for names that only this process's own
    code or settings give.
    """

    name: str
    values: frozenset[Value] = frozenset()
    most: int = 0
    _taken: set[Value] = field(default_factory=set)

    def admit(self, value: Value) -> Value:
        """Return `value`, or `_OTHER` for one too many."""
        if value == ABSENT or value in self.values or value in self._taken:
            return value
        if len(self._taken) >= self.most:
            return OTHER
        self._taken.add(value)
        return value


def one_of(name: str, values: Iterable[Value]) -> Label:
    """Return an attribute with these values, and `_OTHER` for any other."""
    return Label(name, frozenset(values))


def first_of(name: str, most: int) -> Label:
    """Return an attribute whose first `most` values are told apart."""
    return Label(name, most=most)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement of a bucket, and the trace that it was taken in."""

    value: float
    at_ns: int
    trace_id: int
    span_id: int


@dataclass(slots=True)
class Cell:
    """What a histogram knows of one series."""

    buckets: list[int]
    total: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    """By bucket: the newest since the last collection."""


class Counter:
    """Counts, by the values of its attributes; safe between threads."""

    def __init__(self, labels: Sequence[Label] = ()) -> None:
        self._labels = labels
        self._lock = threading.Lock()
        self._counts: dict[Key, int] = {}
        # An increase from nothing is none to who looks at differences: what can be is 0 at first.
        if all(label.values for label in labels):
            self._counts = dict.fromkeys(product(*(sorted(each.values) for each in labels)), 0)

    def add(self, amount: int, *key: Value) -> None:
        """Add `amount`, >= 0; `key` has a value for every attribute, in their order."""
        with self._lock:
            if key not in self._counts:
                key = _admitted(key, self._labels)
                self._counts.setdefault(key, 0)
            self._counts[key] += amount

    def read(self) -> list[tuple[dict[str, Value], int]]:
        """Return every series and its count."""
        with self._lock:
            counts = list(self._counts.items())
        return [(attributes(key, self._labels), count) for key, count in counts]


class Histogram:
    """Puts values into buckets, by the values of its attributes; safe between threads.

    `samples` decides which values become exemplars, by whether their trace is sampled.
    """

    def __init__(
        self, bounds: Sequence[float], labels: Sequence[Label], samples: Callable[[bool], bool]
    ) -> None:
        self.bounds = bounds
        self._labels = labels
        self._samples = samples
        self._lock = threading.Lock()
        self._cells: dict[Key, Cell] = {}

    def record(self, value: float, *key: Value) -> None:
        """Put in `value`; `key` has a value for every attribute, in their order."""
        bucket = bisect_left(self.bounds, value)
        span = trace.get_current_span().get_span_context()
        is_exemplar = self._samples(span.trace_flags.sampled)
        with self._lock:
            cell = self._cells.get(key) or self._cell(key)
            cell.buckets[bucket] += 1
            cell.total += value
            if is_exemplar:
                cell.exemplars[bucket] = Exemplar(value, time_ns(), span.trace_id, span.span_id)

    def read(self, *, is_reset: bool) -> list[tuple[dict[str, Value], Cell]]:
        """Return a copy of every series that has values, and forget them all with `is_reset`."""
        with self._lock:
            cells = [
                (key, Cell(list(cell.buckets), cell.total, cell.exemplars))
                for key, cell in self._cells.items()
            ]
            for cell in self._cells.values():
                cell.exemplars = {}
            if is_reset:
                self._cells = {}
        return [(attributes(key, self._labels), cell) for key, cell in cells]

    def _cell(self, key: Key) -> Cell:
        key = _admitted(key, self._labels)
        return self._cells.setdefault(key, Cell([0] * (len(self.bounds) + 1)))


class NoCounter(Counter):
    """Counts nothing."""

    def add(self, amount: int, *key: Value) -> None:
        """Do nothing."""


class NoHistogram(Histogram):
    """Keeps nothing."""

    def record(self, value: float, *key: Value) -> None:
        """Do nothing."""


def attributes(key: Key, labels: Sequence[Label]) -> dict[str, Value]:
    """Return the attributes that `key` stands for."""
    pairs = zip(labels, key, strict=True)
    return {label.name: value for label, value in pairs if value != ABSENT}


def _admitted(key: Key, labels: Sequence[Label]) -> Key:
    return tuple(label.admit(value) for label, value in zip(labels, key, strict=True))
