"""A call to another service as the trace has it, and what the callee is told of the trace."""

import time

from opentelemetry.trace import SpanKind

from meshkit.telemetry import semconv
from meshkit.telemetry.notes import Note, Trailing, Value
from meshkit.telemetry.recording import Recording, current

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
        """W3C trace context for the callee, which returns its notes where that is not sampled."""
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
        return metadata

    @property
    def _is_sampled(self) -> bool:
        """Whether the callee exports its spans: not where their parent would be missing."""
        mode = self._recording.mode
        return mode.is_sampled and (self._note is not None or not mode.is_recording)

    def note(self, name: str, value: Value) -> None:
        """Add an attribute."""
        if self._note is not None:
            self._note.attributes[name] = value

    def end(self, code: str, trailing: Trailing | None = None) -> None:
        """Note how the call ended, by its status code's name.

        `trailing` is asked for the callee's notes only if the trace is kept.
        """
        note = self._note
        if note is None:
            return
        note.end_ns = time.perf_counter_ns()
        note.attributes[semconv.RPC_STATUS_CODE] = code
        if code != _OK:
            note.fail(code)
        if not self._recording.mode.is_sampled:
            note.returned = trailing
        self._recording.let_go()


def begin_call(method: str, attributes: dict[str, Value]) -> OutgoingCall:
    """Note a call that the current one makes, as a child of the stage that is going on."""
    attributes[semconv.RPC_SYSTEM] = semconv.GRPC
    attributes[semconv.RPC_METHOD] = method
    recording = current()
    return OutgoingCall(recording, recording.begin(method, SpanKind.CLIENT, attributes))
