"""What the service configs of the mesh and of its client ask gRPC for."""

import json
from typing import Any

import grpc
import pytest

from meshkit.channels import CHANNEL_OPTIONS, SERVER_PING_OPTIONS, service_config
from recmesh_client.channel import channel_options

MESH = json.loads(service_config("v1", [grpc.StatusCode.UNAVAILABLE]))
CLIENT = json.loads(str(dict(channel_options())["grpc.service_config"]))


@pytest.mark.parametrize("config", [MESH, CLIENT])
def test_calls_go_round_the_servers_that_are_not_outliers(config: dict[str, Any]) -> None:
    ((name, outliers),) = config["loadBalancingConfig"][0].items()

    assert name == "outlier_detection_experimental"
    assert outliers["childPolicy"] == [{"round_robin": {}}]


@pytest.mark.parametrize("config", [MESH, CLIENT])
def test_an_ejection_ends_within_five_seconds(config: dict[str, Any]) -> None:
    outliers = config["loadBalancingConfig"][0]["outlier_detection_experimental"]

    longest_s = float(outliers["maxEjectionTime"].rstrip("s"))
    assert longest_s + float(outliers["interval"].rstrip("s")) <= 5


@pytest.mark.parametrize("config", [MESH, CLIENT])
def test_at_most_one_retry_of_unavailable_under_a_budget(config: dict[str, Any]) -> None:
    (methods,) = config["methodConfig"]

    assert methods["retryPolicy"]["maxAttempts"] == 2
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert config["retryThrottling"] == {"maxTokens": 10, "tokenRatio": 0.1}


def test_the_mesh_retries_what_it_is_told_to_on_every_method() -> None:
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED]
    (methods,) = json.loads(service_config("", codes))["methodConfig"]

    assert methods["name"] == [{}]
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "ABORTED"]


def test_without_a_status_to_retry_on_nothing_is_retried() -> None:
    assert not {"methodConfig", "retryThrottling"} & json.loads(service_config("v1")).keys()


def test_health_is_asked_by_the_name_given() -> None:
    assert json.loads(service_config("v1"))["healthCheckConfig"] == {"serviceName": "v1"}


@pytest.mark.parametrize("options", [CHANNEL_OPTIONS, channel_options()])
def test_servers_allow_the_pings_that_channels_send(options: Any) -> None:
    every_ms = dict(options)["grpc.keepalive_time_ms"]
    allowed_every_ms = dict(SERVER_PING_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]

    assert every_ms >= 2 * allowed_every_ms
