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
PING_EVERY_MS = 1000  # idle, a ping costs 0.1 ms CPU here and 0.06 ms in the server
PING_TIMEOUT_MS = 1000  # no answer was this late with 8 busy processes on one core
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),  # the default waits 20 s for a connection attempt
    ("grpc.max_reconnect_backoff_ms", 1000),  # a restarted server is used again within about 1 s
    # A name is looked up again when a server leaves; by default 30 s pass between two looks.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # equal channels would share one connection
    # The connections of a stopped process stay up, as do those through a black hole: only pings
    # tell. With these, calls to a stopped lone server fail at once after 1 to 2 s.
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    # A keepalive ping is not sent while another (to measure bandwidth) is unanswered, and that one
    # has 60 s by default: calls to a stopped server went on waiting.
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # no limit
    *MESSAGE_OPTIONS,
)
# A server ends the connection of who pings more often than it allows: by default every 5 minutes.
# These serve the channels above and the client, which pings less often.
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
        config["retryThrottling"] = _RETRY_THROTTLE
    return json.dumps(config)


# A call that its own deadline ended counts as failed: a stopped one of two servers, unseen by
# health and without pings, left the rotation after 1.0 to 1.5 s and was tried again after 1, 2, 3
# and then 4 s, at the next interval.
_OUTLIERS = {
    "interval": "1s",
    "baseEjectionTime": "1s",
    "maxEjectionTime": "4s",
    "maxEjectionPercent": 50,  # of two servers that both fail one stays
    "failurePercentageEjection": {
        # Shedding counts as failing: at 50, two servers that shed 70 % lost one of the two for
        # half the time, and with it half of what they could answer; at 90 neither.
        "threshold": 90,
        "minimumHosts": 2,  # a lone server is never ejected
        # In one interval and by one channel: 12 calls a second to two servers were enough, 8 not.
        "requestVolume": 5,
    },
    "childPolicy": [{"round_robin": {}}],
}

# 100 calls in a row that all fail make 102 attempts under the throttle, not 200.
_RETRIES = {
    "maxAttempts": 2,
    "initialBackoff": "0.005s",
    "maxBackoff": "0.01s",
    "backoffMultiplier": 2,
}
_RETRY_THROTTLE = {"maxTokens": 10, "tokenRatio": 0.1}


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
