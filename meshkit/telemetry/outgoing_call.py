"""A call to another service as the trace has it, and what the callee is told of the trace."""

import time
from collections.abc import Iterable

from opentelemetry.trace import SpanKind

from meshkit.telemetry import semconv
from meshkit.telemetry.notes import Note, Value
from meshkit.telemetry.recording import Recording, current

NOTES_ASKED = ("recmesh-notes", "1")
"""Metadata of a call whose trace is not sampled: the callee returns its notes with its answer."""
NOTES_RETURNED = "recmesh-notes-bin"
"""Trailing metadata that they are returned in, as `meshkit.telemetry.leaf_notes` writes them."""

_OK = "OK"


class OutgoingCall:
    """One attempt at a call, from before it is made until it has ended.

    The recording of the call that is served is not finished before.
    """

    __slots__ = ("_note", "_recording")

    def __init__(self, recording: Recording, note: Note | None) -> None:
        self._recording = recording
        self._note = note

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """W3C trace context for the callee, and whether it shall return its notes."""
        recording = self._recording
        if not recording.trace_id:
            return ()
        parent = self._note or recording.own
        ids = f"{recording.trace_id:032x}-{parent.span_id:016x}"
        metadata: tuple[tuple[str, str], ...] = (
            ("traceparent", f"00-{ids}-{self._is_sampled:02x}"),
        )
        if recording.trace_state:
            metadata += (("tracestate", recording.trace_state.to_header()),)
        return (*metadata, NOTES_ASKED) if self.asks_notes else metadata

    @property
    def asks_notes(self) -> bool:
        """Whether the callee's notes are wanted from its trailing metadata."""
        return self._note is not None and not self._recording.mode.is_sampled

    @property
    def _is_sampled(self) -> bool:
        """Whether the callee exports its spans: not where their parent would be missing."""
        mode = self._recording.mode
        return mode.is_sampled and (self._note is not None or not mode.is_recording)

    def note(self, name: str, value: Value) -> None:
        """Add an attribute."""
        if self._note is not None:
            self._note.attributes[name] = value

    def end(self, code: str, trailing: Iterable[tuple[str, str | bytes]] | None = None) -> None:
        """Note how the call ended, by its status code's name."""
        note = self._note
        if note is None:
            return
        note.end_ns = time.perf_counter_ns()
        note.attributes[semconv.RPC_STATUS_CODE] = code
        if code != _OK:
            note.fail(code)
        if self.asks_notes:
            note.returned = _returned_notes(trailing)
        self._recording.let_go()


def begin_call(method: str, attributes: dict[str, Value]) -> OutgoingCall:
    """Note a call that the current one makes, as a child of the stage that is going on."""
    attributes[semconv.RPC_SYSTEM] = semconv.GRPC
    attributes[semconv.RPC_METHOD] = method
    recording = current()
    return OutgoingCall(recording, recording.begin(method, SpanKind.CLIENT, attributes))


def _returned_notes(trailing: Iterable[tuple[str, str | bytes]] | None) -> bytes | None:
    for key, value in trailing or ():
        if key == NOTES_RETURNED and isinstance(value, bytes):
            return value
    return None
