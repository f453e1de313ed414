"""What a trace is called, and the context that makes a call a trace of ours."""

import secrets
from dataclasses import dataclass

from meshctl.traces.span import is_span_id, is_trace_id


@dataclass(frozen=True, slots=True)
class TraceName:
    """A trace, or with `span_id` the part of it that is below one span."""

    trace_id: str
    span_id: str = ""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """Trace context of a call that is to be recorded, whatever the gateway samples otherwise."""

    trace_id: str
    metadata: tuple[tuple[str, str], ...]


def parse_trace_name(text: str) -> TraceName:
    """Read a trace id or a recommendation id. Raises ValueError that says both forms."""
    trace_id, dash, span_id = text.strip().lower().partition("-")
    if not is_trace_id(trace_id) or (dash and not is_span_id(span_id)):
        raise ValueError(
            f"{text[:80]!r} is neither a trace id (32 hexadecimal digits) nor a recommendation id"
            " (a trace id, a dash and 16 hexadecimal digits)"
        )
    return TraceName(trace_id, span_id)


def recorded_call() -> RecordedCall:
    """Return a new trace's context: W3C Trace Context, version 0, flag "sampled"."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return RecordedCall(trace_id, (("traceparent", f"00-{trace_id}-{span_id}-01"),))
