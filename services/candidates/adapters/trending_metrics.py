"""What a trending source counts of its reads of DynamoDB."""

from collections.abc import Callable

from meshkit.instruments import one_of
from meshkit.metrics import Meter

OK = "ok"
FAILED = "failed"


class TrendingMetrics:
    """Refreshes by outcome and duration, and the age of what trends.

    `age_s` returns the age of the data that answers stand on now; None: there is none.
    """

    def __init__(self, meter: Meter, age_s: Callable[[], float | None]) -> None:
        self._age_s = age_s
        self._refreshes = meter.counter(
            "recmesh.trending.refreshes",
            "{refresh}",
            "Reads of what trends",
            (one_of("recmesh.outcome", [OK, FAILED]),),
        )
        self._duration = meter.histogram(
            "recmesh.trending.refresh.duration", "s", "Time that a read of what trends took"
        )
        meter.gauge(
            "recmesh.source.data_age", "s", "Age of the data behind a source's answers", self._ages
        )

    def refreshed(self, duration_s: float, *, has_failed: bool) -> None:
        """Count one read."""
        self._refreshes.add(1, FAILED if has_failed else OK)
        self._duration.record(duration_s)

    def _ages(self) -> list[tuple[dict[str, str], float]]:
        age_s = self._age_s()
        return [] if age_s is None else [({"recmesh.source": "trending"}, age_s)]
