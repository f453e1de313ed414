"""Where the gateway is and how a channel to it behaves."""

import ipaddress
import json
from collections.abc import Sequence

from recmesh.gateway.v1 import gateway_pb2

_SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name

# Of several gateways, one that answers hardly anything is left out for 1 to 4 s at a time, a lone
# one never. Calls that end by their own deadline count, so a stopped gateway is out after 1 to 2 s
# of traffic. What an overloaded gateway sheds counts as well: hence near silence, not half.
_OUTLIERS = {
    "interval": "1s",
    "baseEjectionTime": "1s",
    "maxEjectionTime": "4s",
    "maxEjectionPercent": 50,
    "failurePercentageEjection": {"threshold": 90, "minimumHosts": 2, "requestVolume": 5},
    "childPolicy": [{"round_robin": {}}],
}

# UNAVAILABLE is the only status after which the work surely was not done for us. One retry, and a
# budget of failures for the whole channel, so that an outage is not answered with twice the load.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"outlier_detection_experimental": _OUTLIERS}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

# gRPC's own cap is two minutes: a gateway that comes back would go unnoticed as long.
_RECONNECT_BACKOFF_INITIAL_MS = 100
_RECONNECT_BACKOFF_MAX_MS = 1000  # also what an attempt gets to connect

# A stopped or unreachable gateway keeps its connection, and callers with little traffic are not
# enough for an ejection: pings tell within 4 s. Every 2 s, less often than inside of the mesh, for
# a gateway has many callers; gateways allow up to 4 a second.
_PING_EVERY_MS = 2000
_PING_TIMEOUT_MS = 2000


def channel_options() -> tuple[tuple[str, str | int], ...]:
    """Return the options of every channel to a gateway."""
    return (
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_BACKOFF_INITIAL_MS),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT_BACKOFF_MAX_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_BACKOFF_MAX_MS),
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        # gRPC's own pings (for bandwidth) have 60 s by default, and keepalive waits for them.
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


def grpc_target(targets: str | Sequence[str]) -> str:
    """Return one gRPC target for one or several gateway addresses.

    One address may be `host:port` or any gRPC target, such as `dns:///gateway.internal:8080`.
    Several must be IP addresses with ports, all IPv4 or all IPv6 (`[::1]:8080`), because gRPC
    resolves one name only; a name with several addresses is one target.

    Raises ValueError naming the address that cannot be used.
    """
    addresses = [targets] if isinstance(targets, str) else list(targets)
    if not addresses or not all(addresses):
        raise ValueError(f"targets: need at least one gateway address, none empty, got {targets!r}")
    if len(addresses) == 1:
        return addresses[0]
    versions = {_ip_version(address) for address in addresses}
    if len(versions) > 1:
        raise ValueError(f"targets: need all IPv4 or all IPv6, got {addresses!r}")
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _ip_version(address: str) -> int:
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        ip = None
    if ip is None or not port.isdecimal() or (ip.version == 6) != host.startswith("["):  # noqa: PLR2004  IPv6 is a name
        raise ValueError(
            f"targets: {address!r} is not IP:PORT, as several addresses must be;"
            " for a name with several addresses pass dns:///NAME:PORT alone"
        )
    return ip.version
