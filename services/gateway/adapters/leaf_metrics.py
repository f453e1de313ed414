"""What the gateway counts of its calls to leaves."""

from collections.abc import Sequence

import grpc

from meshkit.telemetry import semconv
from meshkit.telemetry.instruments import ABSENT, one_of
from meshkit.telemetry.metrics import Meter

LEAF = "recmesh.leaf"

_CODES = [code.name for code in grpc.StatusCode]
_OK = grpc.StatusCode.OK.name


class LeafMetrics:
    """Durations of calls by leaf and outcome, and which were made a second time."""

    def __init__(self, meter: Meter, leaves: Sequence[str], methods: Sequence[str]) -> None:
        leaf = one_of(LEAF, leaves)
        self._duration = meter.histogram(
            "rpc.client.call.duration",
            "s",
            "Time that a call to a leaf took",
            (
                one_of(semconv.RPC_SYSTEM, [semconv.GRPC]),
                one_of(semconv.RPC_METHOD, methods),
                leaf,
                one_of(semconv.RPC_STATUS_CODE, _CODES),
                one_of(semconv.ERROR_TYPE, _CODES),
            ),
        )
        self._hedged = meter.counter(
            "recmesh.calls.hedged", "{call}", "Slow calls made a second time", (leaf,)
        )

    def ended(self, leaf: str, method: str, code: str, duration_s: float) -> None:
        """Count a call by the name of its status code."""
        error_type = ABSENT if code == _OK else code
        self._duration.record(duration_s, semconv.GRPC, method, leaf, code, error_type)

    def hedged(self, leaf: str) -> None:
        """Count a call that was made a second time."""
        self._hedged.add(1, leaf)
