"""StatusService, which every service answers alike: what a shelf holds, in protos."""

from typing import Any

import grpc
from recmesh.common.v1 import status_pb2, status_pb2_grpc

from meshkit.shelf import Shelf


class StatusServicer(status_pb2_grpc.StatusServiceServicer):
    """Answers `Describe` on a sync server; it must never wait."""

    def __init__(self, shelf: Shelf[Any]) -> None:
        self._shelf = shelf

    def Describe(  # noqa: N802 - gRPC's own name
        self, _request: status_pb2.DescribeRequest, _context: grpc.ServicerContext
    ) -> status_pb2.DescribeResponse:
        """Return which versions are held, and why others are not."""
        return describe(self._shelf, self._shelf.current())


def describe(shelf: Shelf[Any], current: str | None) -> status_pb2.DescribeResponse:
    """Return what is on a shelf, `current` being what requests are answered from."""
    held = [
        status_pb2.VersionStatus(version=version, state=status_pb2.VERSION_STATE_HELD)
        for version in shelf.versions()
    ]
    refused = [
        status_pb2.VersionStatus(
            version=each.version, state=status_pb2.VERSION_STATE_REFUSED, reason=each.reason
        )
        for each in shelf.refusals()
    ]
    return status_pb2.DescribeResponse(current_version=current or "", versions=[*held, *refused])
