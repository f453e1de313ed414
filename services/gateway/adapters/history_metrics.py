"""What the gateway counts of looking histories up."""

from meshkit.telemetry.instruments import one_of
from meshkit.telemetry.metrics import Meter
from services import attributes

CACHED = "cached"
SHARED = "shared"
READ = "read"
REFUSED = "refused"
LOOK_UPS = (CACHED, SHARED, READ, REFUSED)
"""It was in the cache; another request was reading it; it was read; there was no room to."""


class HistoryMetrics:
    """Where histories came from, and how long reads of DynamoDB took."""

    def __init__(self, meter: Meter) -> None:
        self._look_ups = meter.counter(
            "recmesh.history.lookups",
            "{lookup}",
            "Histories looked up, by where they came from",
            (one_of(attributes.HISTORY_LOOKUP, LOOK_UPS),),
        )
        self._read = meter.histogram(
            "recmesh.history.read.duration",
            "s",
            "Time that a read of a history took, also when nobody waited for its end",
        )

    def looked_up(self, how: str) -> None:
        """Count one history, by one of `LOOK_UPS`."""
        self._look_ups.add(1, how)

    def read(self, duration_s: float) -> None:
        """Count one read, failed or not."""
        self._read.record(duration_s)
