"""What a trending source counts of its reads of DynamoDB."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from meshkit.telemetry.instruments import Value, one_of
from meshkit.telemetry.metrics import Meter

OK = "ok"
FAILED = "failed"

AgeS = Callable[[], float | None]


class TrendingMetrics:
    """Refreshes by outcome and duration, and the age of what trends."""

    def __init__(self, meter: Meter) -> None:
        self._ages_s: list[AgeS] = []
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
            "recmesh.source.data_age", "s", "Age of the data behind a source's answers", self._read
        )

    @contextmanager
    def following(self, age_s: AgeS) -> Iterator[None]:
        """Tell of the age that `age_s` returns while the block runs; None: there is no data yet.

        Of several, one a bundle that is held, the least counts: all of them read the same table.
        """
        self._ages_s.append(age_s)
        try:
            yield
        finally:
            self._ages_s.remove(age_s)

    def refreshed(self, duration_s: float, *, has_failed: bool) -> None:
        """Count one read."""
        self._refreshes.add(1, FAILED if has_failed else OK)
        self._duration.record(duration_s)

    def _read(self) -> Iterator[tuple[Mapping[str, Value], float]]:
        ages_s = [age_s for read in list(self._ages_s) if (age_s := read()) is not None]
        if ages_s:
            yield {"recmesh.source": "trending"}, min(ages_s)
