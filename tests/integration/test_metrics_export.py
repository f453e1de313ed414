"""Metrics leave the process over OTLP, and a collector that is gone holds nothing up."""

import os
import subprocess
import sys

import pytest

from tests.integration.meshkit_children import ROOT, free_port, wait_until
from tests.integration.otlp_receiver import OtlpReceiver

PROGRAM = """
from meshkit import telemetry
from meshkit.telemetry import metrics
telemetry.setup("echo", "echo-1")
meter = metrics.meter()
meter.counter("calls", "{call}", "Calls").add(3)
meter.histogram("took", "s", "Time").record(0.01)
meter.gauge("places", "{call}", "Places", lambda: [({}, 5)])
print(type(meter).__name__)
telemetry.shutdown()
"""


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=28,  # the SDK's own shutdown takes 30 s
    )
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["ENDPOINT", "METRICS_ENDPOINT"])
def test_every_kind_of_metric_is_exported_at_the_latest_when_the_process_ends(
    variable: str,
) -> None:
    with OtlpReceiver().serving() as receiver:
        run(**{f"OTEL_EXPORTER_OTLP_{variable}": receiver.endpoint})

    points = receiver.emitted.points
    found = {(point.name, point.kind, point.unit) for point in points if point.is_reached}
    assert found == {
        ("calls", "counter", "{call}"),
        ("took", "histogram", "s"),
        ("places", "gauge", "{call}"),
    }
    assert {point.service for point in points} == {"echo"}
    assert all(
        resource["service.instance.id"] == "echo-1" for resource in receiver.emitted.resources
    )


def test_the_interval_is_opentelemetrys_own_setting() -> None:
    waiting = PROGRAM.replace("telemetry.shutdown()", "input()")
    with OtlpReceiver().serving() as receiver:
        process = subprocess.Popen(
            [sys.executable, "-c", waiting],
            cwd=ROOT,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_METRIC_EXPORT_INTERVAL": "50",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: [each.name for each in receiver.emitted.points].count("calls") > 1)
        finally:
            process.kill()
            process.communicate()


def test_without_an_endpoint_there_is_nothing_to_export() -> None:
    assert run() == "Meter"


def test_a_collector_that_is_gone_does_not_hold_up_the_end_of_the_process() -> None:
    assert run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}") == "SdkMeter"


def test_a_wrong_exemplar_filter_is_refused_with_the_choices() -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run(
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
            OTEL_METRICS_EXEMPLAR_FILTER="sometimes",
        )

    assert "allowed: trace_based, always_on, always_off" in raised.value.stderr
