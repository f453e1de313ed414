"""What the ranker counts of its work."""

from meshkit.telemetry.instruments import ITEMS
from meshkit.telemetry.metrics import Meter


class RankingMetrics:
    """How many candidates were ranked at a time, and how long that took."""

    def __init__(self, meter: Meter) -> None:
        self._batch = meter.histogram(
            "recmesh.ranker.batch_size", "{item}", "Candidates ranked at a time", bounds=ITEMS
        )
        self._duration = meter.histogram(
            "recmesh.ranker.scoring.duration", "s", "Time that features and scores of a batch took"
        )

    def ranked(self, items: int, duration_s: float) -> None:
        """Count one batch."""
        self._batch.record(items)
        self._duration.record(duration_s)
