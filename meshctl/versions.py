"""Asks a process of the mesh which bundle versions it holds, and which it refused."""

from dataclasses import dataclass

import grpc
from recmesh.common.v1 import status_pb2, status_pb2_grpc

from meshctl.health import CHANNEL_OPTIONS


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that a process does not serve, and why."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Versions:
    """What one process says of bundle versions; all empty when it cannot be asked."""

    current: str = ""
    held: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()


UNKNOWN = Versions()


def versions_of(address: str, *, protocol: str, timeout_s: float) -> Versions:
    """Return the versions of the process at `address` (`host:port`, or empty)."""
    if not address or protocol != "grpc":
        return UNKNOWN
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = status_pb2_grpc.StatusServiceStub(channel)
        try:
            answer = stub.Describe(status_pb2.DescribeRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return UNKNOWN  # its health says how it is
    return Versions(
        answer.current_version,
        tuple(each.version for each in answer.versions if _is_held(each)),
        tuple(Refused(each.version, each.reason) for each in answer.versions if not _is_held(each)),
    )


def _is_held(version: status_pb2.VersionStatus) -> bool:
    return version.state == status_pb2.VERSION_STATE_HELD
