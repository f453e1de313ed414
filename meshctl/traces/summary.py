"""What a trace says in one line: how long it took, what the answer was worth, who took part."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshctl.traces.span import Span, Value
from meshctl.traces.tree import Trace

TIER = "recmesh.tier"
DEGRADED = "recmesh.degraded"
KEPT = "recmesh.kept"
BUNDLE = "recmesh.bundle.version"


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one trace; `tier` is empty and `is_degraded` None where the trace does not say."""

    total_ms: float
    tier: str
    is_degraded: bool | None
    kept: str
    bundle: str
    spans: int
    failed: int
    services: Sequence[str]


def summary_of(trace: Trace) -> Summary:
    """Return the summary; its time is that of the answer's own span, if it is there."""
    head = trace.head
    return Summary(
        total_ms=_total_ms(trace),
        tier=_text(head.attributes.get(TIER)),
        is_degraded=_is_degraded(head),
        kept=_text(head.attributes.get(KEPT)),
        bundle=_text(head.attributes.get(BUNDLE)),
        spans=len(trace.spans),
        failed=sum(span.status == "error" for span in trace.spans),
        services=trace.services,
    )


def _total_ms(trace: Trace) -> float:
    head = trace.head
    if trace.has_whole:
        return head.duration_ms
    # Without the span that holds the others, their time from end to end.
    return (max(s.end_ns for s in trace.spans) - min(s.start_ns for s in trace.spans)) / 1e6


def _is_degraded(head: Span) -> bool | None:
    said = head.attributes.get(DEGRADED)
    if said is None:
        return True if head.attributes.get(KEPT) == "degraded" else None
    return said in (True, "true")


def _text(value: Value) -> str:
    return "" if value is None else str(value)
