"""The notes of a served call in the form in which they return to the caller: compact JSON.

They say when things happened relative to the call's own beginning, since clocks differ. No text
of an error is in them: it must not leave the process.
"""

import json
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from meshkit.telemetry import semconv
from meshkit.telemetry.notes import Event, Note, Value
from meshkit.telemetry.recording import Recording

# Trailing metadata holds 8 KiB by default and fails the call beyond; an error may take 5.7 of it.
MAX_BYTES = 1_400
MAX_STAGES = 16
MAX_LINKS = 4

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_NS_PER_US = 1_000
_MAX_US = 3_600_000_000  # no call takes an hour
_MAX_SPAN_ID = 2**64 - 1
_MAX_TRACE_ID = 2**128 - 1
_MAX_INT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Which process notes come from."""

    service_name: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class LeafNotes:
    """Notes of one call as its caller reads them; their times begin at 0."""

    origin: Origin
    own: Note
    stages: list[Note]


def write(recording: Recording, origin: Origin) -> bytes | None:
    """Return the notes so far, without attributes or stages where they grow too large."""
    whole = _as_json(recording, origin)
    written = _encode(whole).encode()
    if len(written) <= MAX_BYTES:
        return written
    bare = [stage[:3] for stage in whole["t"]]
    for shortened in ({**whole, "t": bare}, {**whole, "t": [], "a": {}, "l": []}):
        written = _encode(shortened).encode()
        if len(written) <= MAX_BYTES:
            return written
    return None


def _as_json(recording: Recording, origin: Origin) -> dict[str, Any]:
    own = recording.own
    return {
        "s": origin.service_name,
        "i": origin.instance_id,
        "id": own.span_id,
        "us": int(recording.duration_s * 1e6),
        "e": int(own.is_error),
        "a": own.attributes,
        "x": [event.attributes.get(semconv.EXCEPTION_TYPE, "") for event in own.events],
        "l": [[link.trace_id, link.span_id] for link in own.links[:MAX_LINKS]],
        "t": [_stage_as_json(note, own.start_ns) for note in recording.notes[:MAX_STAGES]],
    }


def _stage_as_json(note: Note, start_ns: int) -> tuple[str, int, int, dict[str, Any]]:
    offset_us = (note.start_ns - start_ns) // _NS_PER_US
    return note.name, offset_us, (note.end_ns - note.start_ns) // _NS_PER_US, note.attributes


def read(written: bytes) -> LeafNotes | None:
    """Return what `write` wrote; None for what it cannot have written."""
    if len(written) > MAX_BYTES:
        return None
    try:
        return _from_json(json.loads(written))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _from_json(said: dict[str, Any]) -> LeafNotes:
    span_id, end_ns = _number(said["id"], _MAX_SPAN_ID), _number(said["us"], _MAX_US) * _NS_PER_US
    own = Note("", SpanKind.SERVER, span_id, 0, 0, end_ns)
    own.attributes = _attributes(said["a"])
    own.name = str(own.attributes.get(semconv.RPC_METHOD, ""))
    own.is_error = bool(said["e"])
    own.events = [
        Event(semconv.EXCEPTION, end_ns, {semconv.EXCEPTION_TYPE: str(kind)}) for kind in said["x"]
    ]
    own.links = [_link(trace_id, span_id) for trace_id, span_id in said["l"]]
    stages = [_stage(stage, own.span_id) for stage in said["t"]]
    return LeafNotes(Origin(str(said["s"]), str(said["i"])), own, stages)


def _stage(said: list[Any], parent_id: int) -> Note:
    name, offset_us, duration_us, *rest = said
    start_ns = _number(offset_us, _MAX_US) * _NS_PER_US
    note = Note(str(name), SpanKind.INTERNAL, 0, parent_id, start_ns)
    note.end_ns = start_ns + _number(duration_us, _MAX_US) * _NS_PER_US
    note.attributes = _attributes(rest[0]) if rest else {}
    return note


def _attributes(said: dict[str, Any]) -> dict[str, Value]:
    return {name: _value(value) for name, value in said.items()}


def _value(said: Any) -> Value:
    if isinstance(said, list):
        return tuple(str(part) for part in said)
    if isinstance(said, int) and abs(said) > _MAX_INT:
        raise ValueError("an integer that no span can hold")
    if isinstance(said, str | bool | int | float):
        return said
    raise TypeError("a value that no span can hold")


def _link(trace_id: Any, span_id: Any) -> SpanContext:
    trace_number, span_number = _number(trace_id, _MAX_TRACE_ID), _number(span_id, _MAX_SPAN_ID)
    return SpanContext(trace_number, span_number, is_remote=True, trace_flags=TraceFlags(1))


def _number(said: Any, at_most: int) -> int:
    if not isinstance(said, int) or not 0 <= said <= at_most:
        raise ValueError("a number out of range")
    return said
