"""From the notes of a kept trace to spans as the SDK's exporters take them."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    Resource,
)
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from meshkit.telemetry import leaf_notes, semconv
from meshkit.telemetry.leaf_notes import LeafNotes, Origin
from meshkit.telemetry.notes import Note, Value
from meshkit.telemetry.recording import Recording, new_id

MAX_TEXT_CHARACTERS = 256
"""Of an attribute's value."""
MAX_ERROR_CHARACTERS = 4096
MAX_PARTS = 32
"""Values of one attribute."""

_SCOPE = InstrumentationScope("meshkit")
_UNSET = Status(StatusCode.UNSET)


def spans_of(recording: Recording, resource: Resource, reason: str) -> Iterator[ReadableSpan]:
    """Yield the spans of a kept trace: the call's own, its notes', and those of its callees.

    Callees that returned no notes exported their spans themselves, or never answered.
    """
    trace = _Trace(recording)
    recording.own.attributes[semconv.KEPT] = reason
    yield trace.span(recording.own, resource, recording.parent)
    for note in recording.notes:
        yield trace.span(note, resource)
        returned = None if note.returned is None else leaf_notes.returned_in(note.returned())
        if returned is not None:
            yield from _spans_of_callee(trace, note, returned, resource, reason)


def _spans_of_callee(
    trace: "_Trace", call: Note, notes: LeafNotes, resource: Resource, reason: str
) -> Iterator[ReadableSpan]:
    """Yield a callee's spans, in the middle of the call: clocks of two machines differ."""
    own = notes.own
    away_ns = call.end_ns - call.start_ns - own.end_ns
    start_ns = call.start_ns + max(away_ns // 2, 0)
    of_callee = _resource_of(notes.origin, resource)
    own.parent_id = call.span_id
    own.attributes[semconv.KEPT] = reason
    for note in (own, *notes.stages):
        note.span_id = note.span_id or new_id()
        note.start_ns += start_ns
        note.end_ns += start_ns
        yield trace.span(note, of_callee)


class _Trace:
    """Turns notes into spans of one trace."""

    def __init__(self, recording: Recording) -> None:
        self._trace_id = recording.trace_id
        self._trace_state = recording.trace_state
        self._epoch_ns = recording.epoch_ns

    def span(
        self, note: Note, resource: Resource, parent: SpanContext | None = None
    ) -> ReadableSpan:
        if parent is None and note.parent_id:
            parent = self._context(note.parent_id)
        return ReadableSpan(
            _text(note.name),
            self._context(note.span_id),
            parent,
            resource,
            _bounded(note.attributes),
            self._events(note),
            [Link(context) for context in note.links],
            note.kind,
            status=_status(note),
            start_time=note.start_ns + self._epoch_ns,
            end_time=note.end_ns + self._epoch_ns,
            instrumentation_scope=_SCOPE,
        )

    def _context(self, span_id: int) -> SpanContext:
        # Exporters leave out what is not sampled: by now every span of the trace is.
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(self._trace_id, span_id, False, flags, self._trace_state)

    def _events(self, note: Note) -> list[Event]:
        return [
            Event(event.name, event.attributes, event.at_ns + self._epoch_ns)
            for event in note.events
        ]


@lru_cache(maxsize=256)
def _resource_of(origin: Origin, ours: Resource) -> Resource:
    """Return what is known of another process; the environment describes only our own."""
    sdk = (TELEMETRY_SDK_LANGUAGE, TELEMETRY_SDK_NAME, TELEMETRY_SDK_VERSION)
    known = {name: ours.attributes[name] for name in sdk if name in ours.attributes}
    names = {SERVICE_NAME: origin.service_name, SERVICE_INSTANCE_ID: origin.instance_id}
    return Resource({**known, **names})


def _bounded(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name: _bounded_value(value) for name, value in attributes.items()}


def _bounded_value(value: Value) -> Value:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return tuple(_text(part) for part in value[:MAX_PARTS])
    return value


def _status(note: Note) -> Status:
    if not note.is_error:
        return _UNSET
    text = note.error_text
    return Status(StatusCode.ERROR, None if text is None else _text(text, MAX_ERROR_CHARACTERS))


def _text(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text that an exporter takes: others would fall with one that it does not."""
    return text[:limit].encode("utf-8", "replace").decode()
