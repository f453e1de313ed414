"""The notes of a served call in the form in which they return to the caller: compact JSON.

They are written as they are held, in one go: a leaf does so for every unsampled call, a gateway
reads few. Times are of the leaf's own clock, and read relative to the call's beginning, since
clocks differ. No text of an error is in them: it must not leave the process.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from meshkit.telemetry import semconv
from meshkit.telemetry.notes import Event, Note, Value
from meshkit.telemetry.recording import Recording, Stage

NOTES_RETURNED = "recmesh-notes-bin"
"""Trailing metadata in which a callee returns its notes, where the trace is not sampled.

The flags of the trace context ask for them: one pair more in the metadata of every call would
cost its two sides 14 us.
"""

# Trailing metadata holds 8 KiB by default and fails the call beyond; an error may take 5.7 of it.
MAX_BYTES = 1_400
MAX_STAGES = 16
MAX_LINKS = 4

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
    own, stages = recording.own, recording.as_noted
    said: dict[str, Any] = {
        "s": origin.service_name,
        "i": origin.instance_id,
        "id": own.span_id,
        "at": own.start_ns,
        "us": int(recording.duration_s * 1e6),
        "a": own.attributes,
        "t": stages if len(stages) <= MAX_STAGES else stages[:MAX_STAGES],
    }
    if own.is_error or own.events or own.links:
        said |= _rare_parts(own)
    written = _encode(said)
    if len(written) <= MAX_BYTES:
        return written
    bare = [(*_stage_of(each)[:4], None, None) for each in said["t"]]
    for shortened in ({**said, "t": bare}, {**said, "t": [], "a": {}, "l": []}):
        written = _encode(shortened)
        if len(written) <= MAX_BYTES:
            return written
    return None


def _rare_parts(own: Note) -> dict[str, Any]:
    """Return what most calls do not have."""
    return {
        "e": int(own.is_error),
        "x": [event.attributes.get(semconv.EXCEPTION_TYPE, "") for event in own.events],
        "l": [[link.trace_id, link.span_id] for link in own.links[:MAX_LINKS]],
    }


def _encode(said: dict[str, Any]) -> bytes:
    return "".join(_parts(said, 0)).encode()


def _stage_of(noted: object) -> Stage:
    """Return a note as a stage is held; the encoder asks for what it cannot write."""
    if isinstance(noted, tuple):
        return noted
    if isinstance(noted, Note):
        return noted.name, 0, noted.start_ns, noted.end_ns, noted.attributes, None
    raise TypeError(f"no note is made of {type(noted).__name__}")


# What `json.dumps` makes anew each time it is called, at more than twice the cost of its use.
_parts = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # typeshed does not have it
    None, _stage_of, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)


def returned_in(trailing: Iterable[tuple[str, str | bytes]] | None) -> LeafNotes | None:
    """Return the notes that came in trailing metadata; None: there are none that can be read."""
    for key, value in trailing or ():
        if key == NOTES_RETURNED and isinstance(value, bytes):
            return read(value)
    return None


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
    own.is_error = bool(said.get("e"))
    own.events = [
        Event(semconv.EXCEPTION, end_ns, {semconv.EXCEPTION_TYPE: str(kind)})
        for kind in said.get("x", ())
    ]
    own.links = [_link(trace_id, span_id) for trace_id, span_id in said.get("l", ())]
    began_ns = _number(said["at"], _MAX_INT)
    stages = [_stage(stage, own.span_id, began_ns) for stage in said["t"]]
    return LeafNotes(Origin(str(said["s"]), str(said["i"])), own, stages)


def _stage(said: list[Any], parent_id: int, began_ns: int) -> Note:
    name, _, start_ns, end_ns, attributes, error_type = said
    start_ns = _number(start_ns - began_ns, _MAX_US * _NS_PER_US)
    note = Note(str(name), SpanKind.INTERNAL, 0, parent_id, start_ns)
    note.end_ns = _number(end_ns - began_ns, _MAX_US * _NS_PER_US)
    note.attributes = _attributes(attributes or {})
    if error_type is not None:
        note.fail(str(error_type))
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
