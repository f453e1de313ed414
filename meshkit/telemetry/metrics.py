"""Metrics: one meter a process, exported over OTLP only when asked; `meshkit.telemetry` makes it.

OTLP/gRPC when OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set, else
instruments that do nothing. The SDK's reader and exporter obey OpenTelemetry's own variables:
interval, timeout, temporality, exemplar filter. Buckets are always explicit.

Counters and gauges are observable instruments of the SDK. It has none for histograms, so those
join what the reader collected on its way out.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import time_ns
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from meshkit.config import ConfigError
from meshkit.telemetry.instruments import (
    SECONDS,
    Cell,
    Counter,
    Histogram,
    Label,
    NoCounter,
    NoHistogram,
    Value,
)

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
SCOPE = "meshkit"

EXEMPLAR_FILTER = "OTEL_METRICS_EXEMPLAR_FILTER"
EXEMPLAR_FILTERS: Mapping[str, Callable[[bool], bool]] = {
    "trace_based": bool,
    "always_on": lambda _: True,
    "always_off": lambda _: False,
}
"""Whether a value becomes an exemplar, its trace sampled or not."""

CUMULATIVE = export.AggregationTemporality.CUMULATIVE
DELTA = export.AggregationTemporality.DELTA

_NO_METRICS = export.ScopeMetrics(InstrumentationScope(SCOPE), [], "")

ReadGauge = Callable[[], Iterable[tuple[Mapping[str, Value], float]]]
"""Returns every series of a gauge and its value now; those that it leaves out are gone."""


class Meter:
    """Makes instruments, one a name; this one's do nothing and cost nothing."""

    is_on = False

    def counter(self, name: str, unit: str, what: str, labels: Sequence[Label] = ()) -> Counter:
        """Return the counter of `what`."""
        del name, unit, what
        return NoCounter(labels)

    def histogram(
        self,
        name: str,
        unit: str,
        what: str,
        labels: Sequence[Label] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> Histogram:
        """Return the histogram of `what`, whose buckets end at `bounds`."""
        del name, unit, what
        return NoHistogram(bounds, labels, bool)

    def gauge(self, name: str, unit: str, what: str, read: ReadGauge) -> None:
        """Have `what` read at every collection."""

    def shutdown(self) -> None:
        """Export what is left and stop; takes the SDK's own time over a collector that is gone."""


class SdkMeter(Meter):
    """Makes instruments that the SDK exports through `reader`, from the first counter or gauge on.

    A process that had histograms only would export nothing: the SDK has nothing to collect then.
    """

    is_on = True

    def __init__(
        self, reader: export.MetricReader, histograms: "Histograms", resource: Resource
    ) -> None:
        # `telemetry.shutdown` is bounded in time, the SDK's exit hook is not.
        self._provider = sdk.MeterProvider([reader], resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(SCOPE)
        self._counters: dict[str, Counter] = {}
        self._histograms = histograms

    def counter(self, name: str, unit: str, what: str, labels: Sequence[Label] = ()) -> Counter:
        """Return the counter of `what`."""
        if name not in self._counters:
            counter = self._counters[name] = Counter(labels)
            self._meter.create_observable_counter(name, [_observing(counter.read)], unit, what)
        return self._counters[name]

    def histogram(
        self,
        name: str,
        unit: str,
        what: str,
        labels: Sequence[Label] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> Histogram:
        """Return the histogram of `what`, whose buckets end at `bounds`."""
        return self._histograms.get(name, unit, what, labels, bounds)

    def gauge(self, name: str, unit: str, what: str, read: ReadGauge) -> None:
        """Have `what` read at every collection."""
        self._meter.create_observable_gauge(name, [_observing(read)], unit, what)

    def shutdown(self) -> None:
        """Export what is left and stop; takes the SDK's own time over a collector that is gone."""
        self._provider.shutdown()


class Histograms:
    """The histograms of a process, and what they hold as the SDK writes it."""

    def __init__(self, samples: Callable[[bool], bool] = bool) -> None:
        self._samples = samples
        self._named: dict[str, _Named] = {}
        self._since_ns = time_ns()

    def get(
        self, name: str, unit: str, what: str, labels: Sequence[Label], bounds: Sequence[float]
    ) -> Histogram:
        """Return the histogram of a name, made when it is asked for first."""
        if name not in self._named:
            self._named[name] = _Named(unit, what, Histogram(bounds, labels, self._samples))
        return self._named[name].histogram

    def collect(self, temporality: export.AggregationTemporality) -> list[export.Metric]:
        """Return all that have values: since the start, or with DELTA since the last time."""
        since_ns, now_ns = self._since_ns, time_ns()
        if temporality is DELTA:
            self._since_ns = now_ns
        metrics = []
        for name, named in list(self._named.items()):
            histogram = named.histogram
            series = histogram.read(is_reset=temporality is DELTA)
            points = [_point(each, histogram.bounds, since_ns, now_ns) for each in series]
            data = export.Histogram(points, temporality)
            metrics += [export.Metric(name, named.what, named.unit, data)] if points else []
        return metrics


class OtlpExporter(OTLPMetricExporter):
    """The SDK's exporter, which takes the histograms along."""

    def __init__(self, histograms: Histograms) -> None:
        super().__init__()
        self._histograms = histograms

    def export(
        self, metrics_data: export.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> export.MetricExportResult:
        """Send what the reader collected, and the histograms."""
        kind = (self._preferred_temporality or {}).get(sdk.Histogram, CUMULATIVE)
        whole = with_histograms(metrics_data, self._histograms.collect(kind))
        return super().export(whole, timeout_millis, **kwargs)


def with_histograms(
    data: export.MetricsData, histograms: Sequence[export.Metric]
) -> export.MetricsData:
    """Return `data`, which is of one process, with the histograms added.

    They join a scope that is there: of two with one name the encoder keeps the last only.
    """
    (of_process,) = data.resource_metrics
    first, *others = of_process.scope_metrics or [_NO_METRICS]
    whole = replace(first, metrics=[*first.metrics, *histograms])
    return replace(data, resource_metrics=[replace(of_process, scope_metrics=[whole, *others])])


_meter = Meter()


def setup(
    service_name: str, service_instance_id: str, environ: Mapping[str, str] = os.environ
) -> Meter:
    """Make the process's meter; call it once, after the process was spawned.

    Raises `ConfigError` for an exemplar filter that there is not.
    """
    global _meter  # noqa: PLW0603  as the SDK's own providers, there is one a process
    if any(environ.get(variable) for variable in ENDPOINT_VARIABLES):
        histograms = Histograms(_exemplar_filter(environ))
        reader = export.PeriodicExportingMetricReader(OtlpExporter(histograms))
        names = {SERVICE_NAME: service_name, SERVICE_INSTANCE_ID: service_instance_id}
        _meter = SdkMeter(reader, histograms, Resource.create(names))
    return _meter


def meter() -> Meter:
    """Return the process's meter; before `setup`, one whose instruments do nothing."""
    return _meter


@dataclass(frozen=True, slots=True)
class _Named:
    unit: str
    what: str
    histogram: Histogram


def _exemplar_filter(environ: Mapping[str, str]) -> Callable[[bool], bool]:
    name = environ.get(EXEMPLAR_FILTER) or "trace_based"
    if name not in EXEMPLAR_FILTERS:
        raise ConfigError(
            f"{EXEMPLAR_FILTER}={name!r}: not one of the choices; "
            f"allowed: {', '.join(EXEMPLAR_FILTERS)}"
        )
    return EXEMPLAR_FILTERS[name]


def _observing(read: ReadGauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value, attributes) for attributes, value in read()]


def _point(
    series: tuple[Mapping[str, Value], Cell], bounds: Sequence[float], since_ns: int, now_ns: int
) -> export.HistogramDataPoint:
    attributes, cell = series
    return export.HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=since_ns,
        time_unix_nano=now_ns,
        count=sum(cell.buckets),
        sum=cell.total,
        bucket_counts=cell.buckets,
        explicit_bounds=bounds,
        min=None,  # type: ignore[arg-type]  # OTLP may leave both out: of all time they say little
        max=None,  # type: ignore[arg-type]
        exemplars=[
            sdk.Exemplar({}, each.value, each.at_ns, each.span_id or None, each.trace_id or None)
            for each in cell.exemplars.values()
        ],
    )
