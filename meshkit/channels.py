"""Channels to other servers: balancing over the addresses that report SERVING."""

import ipaddress
import json
from collections.abc import Sequence

import grpc

from meshkit.addresses import split_address

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # a request with 200 rows and a filter is some 10 KB
MESSAGE_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),  # the default waits 20 s for a connection attempt
    ("grpc.max_reconnect_backoff_ms", 1000),  # a restarted server is used again within about 1 s
    ("grpc.use_local_subchannel_pool", 1),  # equal channels would share one connection
    *MESSAGE_OPTIONS,
)


def open_channel(addresses: Sequence[str], health_service: str = "") -> grpc.aio.Channel:
    """Return a channel that balances over `addresses`, each `host:port`, in turn.

    It uses those that report SERVING for `health_service`; empty: the process as a whole.

    Call it inside the running event loop. Several addresses must be numeric and of one family; a
    host name stands alone and is resolved by DNS. Raises ValueError naming the address otherwise.
    """
    config = ("grpc.service_config", service_config(health_service))
    return grpc.aio.insecure_channel(_target_of(addresses), options=(config, *CHANNEL_OPTIONS))


def service_config(health_service: str) -> str:
    """Return the service config of a channel that asks for the health of `health_service`."""
    # One wrong policy name breaks every call of a channel: names stand here only, with a test.
    # No retries yet: they multiply load just when a server has too much of it.
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": health_service},
        }
    )


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
