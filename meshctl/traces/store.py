"""Where traces are: the port that local files and Jaeger stand behind."""

from collections.abc import Sequence
from typing import Protocol

from meshctl.traces.span import Span


class TraceStoreError(Exception):
    """The store cannot be read; the message says which and why."""


class TraceStore(Protocol):
    """Traces that were recorded; the last of them may still be on their way here."""

    @property
    def wait_s(self) -> float:
        """How long a span may take from its end until it is here."""
        ...

    @property
    def advice(self) -> str:
        """What to check when a trace is not here."""
        ...

    def spans(self, trace_id: str) -> Sequence[Span]:
        """Return what is here of a trace now. Raises TraceStoreError."""
        ...

    def last_answer(self) -> Span | None:
        """Return the span of the newest answer, None without one. Raises TraceStoreError."""
        ...

    def faults(self) -> Sequence[str]:
        """Return what could not be read so far, a line each."""
        ...
