"""Asks a process of the mesh how it is."""

import socket
from typing import Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Health = Literal["SERVING", "NOT_SERVING", "UNKNOWN", "UNREACHABLE", "TIMEOUT"]

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A shared subchannel would keep its backoff from one question to the next.
    ("grpc.use_local_subchannel_pool", 1),
)


def health_of(address: str, *, protocol: str, timeout_s: float) -> Health:
    """Return the health of the process as a whole at `address` (`host:port`, or empty).

    "grpc" asks grpc.health.v1; anything else only opens a connection.
    """
    if not address:
        return "UNREACHABLE"
    if protocol == "grpc":
        return _grpc_health(address, timeout_s)
    return _connects(address, timeout_s)


def _grpc_health(address: str, timeout_s: float) -> Health:
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as exc:
            is_late = exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return "TIMEOUT" if is_late else "UNREACHABLE"
    return _NAMES.get(answer.status, "UNKNOWN")


def _connects(address: str, timeout_s: float) -> Health:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s):
            return "SERVING"
    except TimeoutError:
        return "TIMEOUT"
    except OSError:
        return "UNREACHABLE"


_NAMES: dict[int, Health] = {
    health_pb2.HealthCheckResponse.SERVING: "SERVING",
    health_pb2.HealthCheckResponse.NOT_SERVING: "NOT_SERVING",
}
