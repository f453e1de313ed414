"""A meter whose metrics a test can read, as they would be exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource

from meshkit.telemetry.metrics import CUMULATIVE, Histograms, SdkMeter, with_histograms


@dataclass(frozen=True, slots=True)
class Reading:
    """What was collected at one moment: data points by metric name."""

    metrics: Mapping[str, export.Metric]

    def points(self, name: str) -> list[Any]:
        return list(self.metrics[name].data.data_points) if name in self.metrics else []

    def series(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Values of counters and gauges, counts of histograms, by attributes; not those at 0."""
        values = {
            frozenset(point.attributes.items()): getattr(point, "value", None) or point.count
            for point in self.points(name)
            if getattr(point, "value", True)
        }
        return {attributes: value for attributes, value in values.items() if value}


class ReadableMeter(SdkMeter):
    """Keeps what it collects in memory."""

    def __init__(self, samples: Callable[[bool], bool] = bool) -> None:
        self.histograms = Histograms(samples)
        self._reader = export.InMemoryMetricReader()
        self._of_process = export.ResourceMetrics(Resource.get_empty(), [], "")
        super().__init__(self._reader, self.histograms, Resource.get_empty())

    def read(self, temporality: export.AggregationTemporality = CUMULATIVE) -> Reading:
        data = self._reader.get_metrics_data() or export.MetricsData([self._of_process])
        whole = with_histograms(data, self.histograms.collect(temporality))
        (of_process,) = whole.resource_metrics
        return Reading(
            {metric.name: metric for scope in of_process.scope_metrics for metric in scope.metrics}
        )
