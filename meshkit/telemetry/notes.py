"""What is noted of one step of a request, before anybody knows whether it will be a span."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry.trace import SpanContext, SpanKind

from meshkit.telemetry import semconv

Value: TypeAlias = str | bool | int | float | tuple[str, ...]
Trailing: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]] | None]
"""Returns the trailing metadata of a call that has ended."""


@dataclass(slots=True, eq=False)
class Event:
    """Something that happened at one moment of a note."""

    name: str
    at_ns: int
    attributes: dict[str, str]


@dataclass(slots=True, eq=False)
class Note:
    """What will be a span; times are those of `time.perf_counter_ns`."""

    name: str
    kind: SpanKind
    span_id: int
    parent_id: int
    start_ns: int
    end_ns: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    is_error: bool = False
    error_text: str | None = None
    # Few notes have any: an empty tuple is no object more for each of the others.
    events: Sequence[Event] = ()
    links: Sequence[SpanContext] = ()
    returned: Trailing | None = None
    """Has the callee's own notes. Few are ever looked at: reading them all took 12 us a call."""

    def fail(self, error_type: str, text: str | None = None) -> None:
        """Say that what it is about went wrong."""
        self.is_error = True
        self.error_text = text
        self.attributes[semconv.ERROR_TYPE] = error_type
