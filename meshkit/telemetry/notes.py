"""What is noted of one step of a request, before anybody knows whether it will be a span."""

from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry.trace import SpanContext, SpanKind

from meshkit.telemetry import semconv

Value: TypeAlias = str | bool | int | float | tuple[str, ...]


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
    events: list[Event] = field(default_factory=list)
    links: list[SpanContext] = field(default_factory=list)
    returned: bytes | None = None
    """The callee's own notes, as they came."""

    def fail(self, error_type: str, text: str | None = None) -> None:
        """Say that what it is about went wrong."""
        self.is_error = True
        self.error_text = text
        self.attributes[semconv.ERROR_TYPE] = error_type
