"""A real Prometheus over what a mesh exports, with a receiver of ours where the collector is.

The receiver writes metrics as the collector's Prometheus exporter does; Debian's Prometheus reads
them as `deploy/compose/prometheus.yaml` says, once a second.
"""

import json
import math
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path
from typing import Any

import grpc
import yaml  # type: ignore[import-untyped]  # it publishes no types
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

from tests.compose.podman_stack import ROOT, StackError
from tests.integration.meshkit_children import free_port
from tests.integration.otlp_receiver import OtlpReceiver
from tests.unit.test_deploy_metrics import in_prometheus

CONFIGURATION = ROOT / "deploy" / "compose" / "prometheus.yaml"
INTERVAL_S = 1
EXPIRES_S = 60.0
"""As `metric_expiration` in deploy/compose/collector.yaml: series of a process that is gone."""
LIFE_S = 300
"""After so long Prometheus ends in any case, were we killed."""
READY_WITHIN_S = 20.0
POLL_S = 0.1

Labels = Mapping[str, str]
Series = tuple[str, Labels, float]


class Collector(OtlpReceiver):
    """Keeps the newest metrics of every process, and writes them for Prometheus."""

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[tuple[str, str], tuple[float, metrics_pb2.ResourceMetrics]] = {}
        self._guard = threading.Lock()

    def take_metrics(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._guard:
            for of_process in request.resource_metrics:
                names = _labels(of_process.resource.attributes)
                process = names["service_name"], names["service_instance_id"]
                self._newest[process] = time.monotonic(), of_process
        return super().take_metrics(request, context)

    def text(self) -> str:
        """Return all series in Prometheus' text format."""
        with self._guard:
            newest = dict(self._newest)
        oldest_s = time.monotonic() - EXPIRES_S
        return "".join(
            f"{name}{{{_written({**labels, 'job': job, 'instance': instance})}}} {value!r}\n"
            for (job, instance), (taken_s, of_process) in newest.items()
            if taken_s > oldest_s
            for scope in of_process.scope_metrics
            for metric in scope.metrics
            for name, labels, value in series_of(metric)
        )


def series_of(metric: metrics_pb2.Metric) -> Iterator[Series]:
    """Yield the series that the collector's exporter makes of a metric."""
    held = str(metric.WhichOneof("data"))
    data = getattr(metric, held)
    kind = "counter" if held == "sum" and data.is_monotonic else held
    names = in_prometheus(metric.name, kind, metric.unit)
    for point in data.data_points:
        labels = _labels(point.attributes)
        if kind == "histogram":
            yield from _of_histogram(names, labels, point)
        else:
            yield names[0], labels, float(getattr(point, str(point.WhichOneof("value"))))


def _of_histogram(
    names: Sequence[str], labels: Labels, point: metrics_pb2.HistogramDataPoint
) -> Iterator[Series]:
    bucket, count, total = names
    ends = [*(f"{bound:g}" for bound in point.explicit_bounds), "+Inf"]
    for end, so_far in zip(ends, accumulate(point.bucket_counts), strict=True):
        yield bucket, {**labels, "le": end}, float(so_far)
    yield count, labels, float(point.count)
    yield total, labels, point.sum


def _labels(pairs: Iterable[common_pb2.KeyValue]) -> dict[str, str]:
    return {pair.key.replace(".", "_"): _text(pair.value) for pair in pairs}


def _text(value: common_pb2.AnyValue) -> str:
    held = getattr(value, str(value.WhichOneof("value")))
    return str(held).lower() if isinstance(held, bool) else str(held)


def _written(labels: Labels) -> str:
    # JSON escapes what Prometheus' format wants escaped, in the same way.
    return ",".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What Prometheus made of a query, over a time."""

    series: int
    """Those with a number in them."""
    greatest: float
    """Of all numbers; NaN when there is none."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def is_ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            return _open(f"{self.url}/-/ready") == b"Prometheus Server is Ready.\n"
        except OSError:
            return False

    def found(self, expression: str, began_s: float, ended_s: float) -> Found:
        """Return what a panel that shows this time would show, times in unix seconds."""
        asked = {"query": expression, "start": began_s, "end": ended_s, "step": INTERVAL_S}
        url = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        try:
            answer = json.loads(_open(url))
        except urllib.error.HTTPError as error:
            raise StackError(f"{expression}: {error.read().decode()}") from error
        numbers = [
            [number for _, text in series["values"] if math.isfinite(number := float(text))]
            for series in answer["data"]["result"]
        ]
        return Found(
            sum(map(bool, numbers)), max((max(each) for each in numbers if each), default=math.nan)
        )


def _open(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return bytes(answer.read())


@contextmanager
def exposed(collector: Collector) -> Iterator[str]:
    """Serve a collector's series until the block ends; yield the `host:port`."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(collector.text().encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's own
            """Say nothing of each scrape."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_S})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running_prometheus(target: str, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus over a target until the block ends. Raises StackError."""
    own = f"127.0.0.1:{free_port()}"
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration(target, own)))
    options = (
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'series'}",
        f"--web.listen-address={own}",
        "--log.level=warn",
    )
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["timeout", str(LIFE_S), "prometheus", *options],  # noqa: S607  wherever they are
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(f"http://{own}")
        _await_ready(prometheus, process, directory / "prometheus.log")
        yield prometheus
    finally:
        process.terminate()
        process.wait()


def _await_ready(prometheus: Prometheus, process: "subprocess.Popen[bytes]", log: Path) -> None:
    gives_up_s = time.monotonic() + READY_WITHIN_S
    while not prometheus.is_ready():
        if process.poll() is not None or time.monotonic() > gives_up_s:
            raise StackError(f"Prometheus did not start: {log.read_text()}")
        time.sleep(POLL_S)


def configuration(target: str, own: str) -> dict[str, Any]:
    """Return the stack's own configuration, for the only targets that there are here."""
    told: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    told["global"] = dict.fromkeys(told["global"], f"{INTERVAL_S}s")
    told["rule_files"] = [str(CONFIGURATION.parent / name) for name in told["rule_files"]]
    targets = {"mesh": target, "prometheus": own}
    told["scrape_configs"] = [
        {**job, "static_configs": [{"targets": [targets[job["job_name"]]]}]}
        for job in told["scrape_configs"]
        if job["job_name"] in targets
    ]
    return told
