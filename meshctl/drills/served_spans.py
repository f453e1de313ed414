"""What the gateways' own spans say of calls, read from the trace files of a drill's mesh."""

from collections.abc import Iterator
from pathlib import Path

from meshctl.run_file import GATEWAY
from meshctl.traces.otlp_json import spans_from
from meshctl.traces.span import ANSWER, Span
from meshkit.telemetry.semconv import RPC_STATUS_CODE

NS_PER_S = 1e9


def durations_s(traces: Path, code: str) -> list[float]:
    """Return how long the gateways took over the sampled calls that ended with a code."""
    return [
        (span.end_ns - span.start_ns) / NS_PER_S
        for span in _spans(traces)
        if span.name == ANSWER and span.attributes.get(RPC_STATUS_CODE) == code
    ]


def _spans(traces: Path) -> Iterator[Span]:
    for path in traces.glob(f"{GATEWAY}-*.jsonl*"):
        for line in path.read_bytes().splitlines():
            yield from spans_from(line)
