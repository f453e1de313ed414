"""What one request notes of itself: plain objects that become spans only if the trace is kept.

How this works. Most traces are thrown away, and whether one is worth keeping is known at its end
only. So a request makes no spans on its way: it takes notes, at about a microsecond each. A
`Recording` belongs to one served call and travels in a context variable. It has the note of the
call itself, of its *stages* and of the calls that it makes. Stages follow one another, so `mark`
ends one and begins the next; calls begun in a stage become its children. The recording is finished
when all that holds it has let go: the handler, work that outlives it, and calls still open. Then
`meshkit.telemetry.recorder` decides. Not safe between threads: a request stays in one, or on one
loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from meshkit.telemetry.notes import Note, Value

new_id = RandomIdGenerator().generate_span_id


@dataclass(frozen=True, slots=True)
class Mode:
    """What becomes of a recording, as far as its beginning decides it."""

    is_sampled: bool
    """It is exported in any case, and so does every callee."""
    is_recording: bool
    """Notes are taken."""
    returns_notes: bool = False
    """The caller gets the notes, and decides."""


Stage: TypeAlias = tuple[str, int, int, int, dict[str, Value] | None, str | None]
"""Name, id or 0, start and end, attributes, error type: a note is made of it where one is read."""

UNRECORDED = Mode(is_sampled=False, is_recording=False)


class Recording:
    """The notes of one served call; current inside its `with` block and in tasks begun there."""

    __slots__ = (
        "_context",
        "_finish",
        "_flags",
        "_holders",
        "_noted",
        "_stage_id",
        "_stage_start_ns",
        "_tokens",
        "epoch_ns",
        "limit_s",
        "mode",
        "own",
        "parent",
        "reason",
        "trace_id",
    )

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        trace_id: int,
        parent: SpanContext | None,
        mode: Mode,
        finish: Callable[[Recording], None],
    ) -> None:
        now_ns = time.perf_counter_ns()
        self.epoch_ns = time.time_ns() - now_ns
        """What to add to the times of notes for unix time."""
        self.trace_id = trace_id
        self.parent = parent
        self.mode = mode
        self.own = Note(name, kind, new_id(), 0 if parent is None else parent.span_id, now_ns)
        self.limit_s: float | None = None
        """Time that the call had, seconds; None: no limit."""
        self.reason: str | None = None
        """Why the trace is worth keeping."""
        self._noted: list[Note | Stage] = []
        self._finish = finish
        self._holders = 1
        self._stage_id = 0
        self._stage_start_ns = now_ns
        self._tokens: tuple[Token[Recording], Token[Any]] | None = None
        self._context: SpanContext | None = None

    def __enter__(self) -> Self:
        self._tokens = (
            _CURRENT.set(self),
            otel_context.attach(trace.set_span_in_context(_CurrentSpan(self))),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        self.own.end_ns = time.perf_counter_ns()
        self._leave()
        self.let_go()

    @property
    def notes(self) -> Sequence[Note]:
        """All that is noted beside the call itself: its stages, and the calls that it made."""
        own_id = self.own.span_id
        noted = [each if isinstance(each, Note) else _as_note(each, own_id) for each in self._noted]
        self._noted = list(noted)
        return noted

    @property
    def as_noted(self) -> Sequence[Note | Stage]:
        """The notes in the form that they are held in, which costs nothing."""
        return self._noted

    @property
    def context(self) -> SpanContext:
        """The ids of the call's own span."""
        if self._context is None:
            flags = TraceFlags(TraceFlags.SAMPLED if self.mode.is_sampled else TraceFlags.DEFAULT)
            self._context = SpanContext(
                self.trace_id, self.own.span_id, False, flags, self.trace_state
            )
        return self._context

    @property
    def trace_state(self) -> TraceState | None:
        """What the caller's tracing system passes along."""
        return None if self.parent is None else self.parent.trace_state

    @property
    def duration_s(self) -> float:
        """How long the call took, or has taken so far."""
        return ((self.own.end_ns or time.perf_counter_ns()) - self.own.start_ns) / 1e9

    @property
    def is_exported(self) -> bool:
        """Whether it is certain by now that the trace is exported here."""
        return self.mode.is_sampled and self.mode.is_recording

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add to what is known of the call."""
        if self.mode.is_recording:
            self.own.attributes.update(attributes)

    def keep(self, reason: str) -> None:
        """Say why the trace is worth keeping though it is not sampled."""
        self.reason = reason

    def limit(self, limit_s: float) -> None:
        """Say how long the call may take, seconds; the least that is said counts."""
        self.limit_s = limit_s if self.limit_s is None else min(self.limit_s, limit_s)

    def link(self, context: SpanContext) -> None:
        """Point to another trace that this one has to do with."""
        if self.mode.is_recording:
            self.own.links = (*self.own.links, context)

    def skip(self) -> None:
        """Begin a stage here; the time since the last one belongs to none."""
        self._stage_start_ns = time.perf_counter_ns()

    def mark(
        self, stage: str, attributes: dict[str, Value] | None = None, error_type: str | None = None
    ) -> None:
        """End the stage that began at the mark before this one."""
        if not self.mode.is_recording:
            return
        now_ns = time.perf_counter_ns()
        start_ns, self._stage_start_ns = self._stage_start_ns, now_ns
        self._noted.append((stage, self._stage_id, start_ns, now_ns, attributes, error_type))
        self._stage_id = 0

    @contextmanager
    def stage(self, name: str, attributes: dict[str, Value] | None = None) -> Iterator[None]:
        """Make the block a stage, failed if it raises."""
        self.skip()
        try:
            yield
        except Exception as error:
            self.mark(name, attributes, type(error).__name__)
            raise
        self.mark(name, attributes)

    def begin(self, name: str, kind: SpanKind, attributes: dict[str, Value]) -> Note | None:
        """Note something that begins in the stage that is going on, as a child of it.

        Holds the recording until `let_go`. None: nothing is noted, or not any more.
        """
        if not self.mode.is_recording or not self.hold():
            return None
        self._stage_id = self._stage_id or new_id()
        started_ns = time.perf_counter_ns()
        note = Note(name, kind, new_id(), self._stage_id, started_ns, attributes=attributes)
        self._noted.append(note)
        return note

    def hold(self) -> bool:
        """Keep the recording from being finished until `let_go`; False: it is finished."""
        is_held = self._holders > 0
        self._holders += is_held
        return is_held

    def hold_until(self, work: asyncio.Future[Any]) -> None:
        """Keep the recording from being finished before `work` is done."""
        if self.hold():
            work.add_done_callback(lambda _: self.let_go())

    def let_go(self) -> None:
        """End a hold; the last one finishes the recording."""
        self._holders -= 1
        if self._holders == 0:
            self._close_stage()
            self._finish(self)

    def _close_stage(self) -> None:
        """Give the calls of a stage that was never marked, since its work failed, to the call."""
        if self._stage_id:
            for note in self.notes:
                if note.parent_id == self._stage_id:
                    note.parent_id = self.own.span_id

    def _leave(self) -> None:
        if self._tokens is None:
            return
        recording, context = self._tokens
        try:
            _CURRENT.reset(recording)
        except ValueError:  # a coroutine that is thrown away is closed in a context of another
            return
        otel_context.detach(context)


class _CurrentSpan(NonRecordingSpan):
    """A recording as others see it; its ids are put together only if somebody asks."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def get_span_context(self) -> SpanContext:
        return self._recording.context

    def __repr__(self) -> str:
        return f"CurrentSpan({self.get_span_context()!r})"


def _as_note(stage: Stage, parent_id: int) -> Note:
    name, span_id, start_ns, end_ns, attributes, error_type = stage
    span_id = span_id or new_id()
    note = Note(name, SpanKind.INTERNAL, span_id, parent_id, start_ns, end_ns, attributes or {})
    if error_type is not None:
        note.fail(error_type)
    return note


def current() -> Recording:
    """Return the recording of the call that is served here; outside of one, what forgets all."""
    return _CURRENT.get()


def mark(stage: str, attributes: dict[str, Value] | None = None) -> None:
    """End a stage of the current call, see `Recording.mark`."""
    _CURRENT.get().mark(stage, attributes)


def stage(name: str, attributes: dict[str, Value] | None = None) -> AbstractContextManager[None]:
    """Make a block a stage of the current call, see `Recording.stage`."""
    return _CURRENT.get().stage(name, attributes)


def skip() -> None:
    """Begin a stage of the current call here, see `Recording.skip`."""
    _CURRENT.get().skip()


def _forget(_: Recording) -> None:
    """Finish what nobody wants to read."""


_NOTHING = Recording("", SpanKind.INTERNAL, 0, None, UNRECORDED, _forget)
_CURRENT: ContextVar[Recording] = ContextVar("recording", default=_NOTHING)
