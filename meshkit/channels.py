"""Channels to other servers: balancing over the addresses that report SERVING."""

import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import grpc

from meshkit.addresses import split_address

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # a request with 200 rows and a filter is some 10 KB
MESSAGE_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
PING_EVERY_MS = 1000
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),  # the default waits 20 s for a connection attempt
    ("grpc.max_reconnect_backoff_ms", 1000),  # a restarted server is used again within about 1 s
    ("grpc.use_local_subchannel_pool", 1),  # equal channels would share one connection
    # A stopped process and a black hole keep their connections: only pings tell.
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # no limit
    *MESSAGE_OPTIONS,
)
# A server answers pings that it finds too frequent by ending the connection (too_many_pings).
SERVER_PING_OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_MS // 4),
)


def open_channel(
    addresses: Sequence[str],
    health_service: str = "",
    *,
    retry_on: Sequence[grpc.StatusCode] = (),
) -> grpc.aio.Channel:
    """Return a channel that balances over `addresses`, each `host:port`, in turn.

    It uses those that report SERVING for `health_service`; empty: the process as a whole. A call
    that ends in one of `retry_on` is made once more, as long as most calls do not fail.

    Call it inside the running event loop. Several addresses must be numeric and of one family; a
    host name stands alone and is resolved by DNS. Raises ValueError naming the address otherwise.
    """
    config = ("grpc.service_config", service_config(health_service, retry_on))
    return grpc.aio.insecure_channel(_target_of(addresses), options=(config, *CHANNEL_OPTIONS))


def service_config(health_service: str, retry_on: Sequence[grpc.StatusCode] = ()) -> str:
    """Return the service config of a channel that asks for the health of `health_service`."""
    # One wrong policy name breaks every call of a channel: names stand here only, with a test.
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"outlier_detection_experimental": _OUTLIERS}],
        "healthCheckConfig": {"serviceName": health_service},
    }
    if retry_on:
        retries = {**_RETRIES, "retryableStatusCodes": [code.name for code in retry_on]}
        config["methodConfig"] = [{"name": [{}], "retryPolicy": retries}]
        config["retryThrottling"] = {"maxTokens": 10, "tokenRatio": 0.1}
    return json.dumps(config)


_OUTLIERS = {
    "interval": "1s",
    "baseEjectionTime": "1s",
    "maxEjectionTime": "4s",
    "maxEjectionPercent": 50,  # never the only worker
    "failurePercentageEjection": {"threshold": 50, "minimumHosts": 2, "requestVolume": 5},
    "childPolicy": [{"round_robin": {}}],
}

_RETRIES = {
    "maxAttempts": 2,
    "initialBackoff": "0.005s",
    "maxBackoff": "0.01s",
    "backoffMultiplier": 2,
}


def check_target(addresses: Sequence[str]) -> None:
    """Raise ValueError, naming the address, unless `open_channel` can use `addresses`."""
    _target_of(addresses)


def _target_of(addresses: Sequence[str]) -> str:
    if not addresses:
        raise ValueError("addresses: a channel needs at least one")
    schemes = {_scheme_of(address) for address in addresses}
    if len(schemes) > 1 or (schemes == {"dns:///"} and len(addresses) > 1):
        raise ValueError(
            f"addresses {', '.join(addresses)}: several addresses must all be IPv4 or all IPv6; "
            "a host name stands alone"
        )
    return schemes.pop() + ",".join(addresses)


def _scheme_of(address: str) -> str:
    host, port = split_address(address)
    if port == 0:
        raise ValueError(f"{address!r} has no port that can be called")
    try:
        return f"ipv{ipaddress.ip_address(host).version}:"
    except ValueError:
        return "dns:///"
