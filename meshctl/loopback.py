"""Keeps calls within this machine away from proxies."""

from collections.abc import MutableMapping

_HOSTS = ("127.0.0.1", "localhost")
_NAMES = ("no_proxy", "NO_PROXY")


def keep_loopback_off_proxies(environment: MutableMapping[str, str]) -> None:
    """Add loopback to the environment's proxy exceptions, for us and what we start.

    gRPC and boto3 send even calls to 127.0.0.1 to the proxy of an office
    network otherwise, where nothing answers them.
    """
    present = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for name in _NAMES:
        environment[name] = _with_loopback(present)
    if "no_grpc_proxy" in environment:  # goes before no_proxy in gRPC
        environment["no_grpc_proxy"] = _with_loopback(environment["no_grpc_proxy"])


def _with_loopback(exceptions: str) -> str:
    if exceptions.strip() == "*":  # no proxy at all; a list would no longer say so
        return exceptions
    hosts = [host.strip() for host in exceptions.split(",") if host.strip()]
    return ",".join([*hosts, *(host for host in _HOSTS if host not in hosts)])
