"""What a server counts of the calls that it serves."""

import grpc

from meshkit.telemetry import semconv
from meshkit.telemetry.instruments import ABSENT, first_of, one_of
from meshkit.telemetry.metrics import Meter

MAX_METHODS = 16
"""Methods that are told apart. Only those that a server has get here, and ours have one or two."""

_CODES = [code.name for code in grpc.StatusCode]
_SHED = grpc.StatusCode.RESOURCE_EXHAUSTED.name


class ServerMetrics:
    """Durations of calls by method and outcome; which were refused, and which came again."""

    def __init__(self, meter: Meter) -> None:
        method = first_of(semconv.RPC_METHOD, MAX_METHODS)
        self._duration = meter.histogram(
            "rpc.server.call.duration",
            "s",
            "Time from a call's arrival to its answer",
            (
                one_of(semconv.RPC_SYSTEM, [semconv.GRPC]),
                method,
                one_of(semconv.RPC_STATUS_CODE, _CODES),
                one_of(semconv.ERROR_TYPE, _CODES),
            ),
        )
        self._shed = meter.counter(
            "recmesh.calls.shed",
            "{call}",
            "Calls refused because there was too much work",
            (method,),
        )
        self._retried = meter.counter(
            "recmesh.calls.retried", "{call}", "Calls that gRPC had tried before", (method,)
        )
        self._seen: set[str] = set()

    def ended(self, method: str, code: str, error_type: str | None, duration_s: float) -> None:
        """Count a call by the name of its status code; `error_type` says that we failed."""
        self._duration.record(duration_s, semconv.GRPC, method, code, error_type or ABSENT)
        if code == _SHED:
            self._shed.add(1, method)
        if method not in self._seen and len(self._seen) < MAX_METHODS:
            self._seen.add(method)
            self._shed.add(0, method)  # a series that begins at 1 shows no increase
            self._retried.add(0, method)

    def retried(self, method: str) -> None:
        """Count a call that was tried before."""
        self._retried.add(1, method)
