"""A ranker that keeps what it is asked and lets another one answer."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from recmesh.ranker.v1 import ranker_pb2

SERVICE = ranker_pb2.DESCRIPTOR.services_by_name["RankerService"].full_name
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RecordingRanker:
    """The running proxy."""

    address: str
    requests: list[bytes] = field(default_factory=list)
    """Every request as its bytes, oldest first."""

    def last_request(self) -> ranker_pb2.RankRequest:
        """Return the newest request."""
        return ranker_pb2.RankRequest.FromString(self.requests[-1])


def forward(channel: grpc.Channel, request: bytes) -> bytes:
    call: Any = channel.unary_unary(f"/{SERVICE}/Rank")
    return bytes(call(request, timeout=TIMEOUT_S))


@contextmanager
def recording_ranker(ranker_address: Callable[[], str]) -> Iterator[RecordingRanker]:
    """Serve a proxy; `ranker_address` is called when the first request comes."""
    server = grpc.server(ThreadPoolExecutor(4))
    proxy = RecordingRanker(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    channels: list[grpc.Channel] = []

    def rank(request: bytes, _context: grpc.ServicerContext) -> bytes:
        if not channels:
            channels.append(grpc.insecure_channel(ranker_address()))
        proxy.requests.append(request)
        return forward(channels[0], request)

    # Without a serializer a handler gets and gives bytes.
    handlers: dict[str, Any] = {"Rank": grpc.unary_unary_rpc_method_handler(rank)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.start()
    try:
        yield proxy
    finally:
        server.stop(None).wait()
        for channel in channels:
            channel.close()
