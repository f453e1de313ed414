"""A real gRPC server whose RecommendationService does what a test tells it to.

Also a program, `python -m tests.integration.scripted_gateway NAME`, that prints its port and
answers every call with NAME as the bundle version, for tests that kill a gateway.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import (
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.gateway.v1 import gateway_pb2_grpc

Step = Callable[[pb.RecommendRequest, grpc.ServicerContext], pb.RecommendResponse]


def echo(name: str) -> Step:
    """Answer with `name` as the bundle version and the user as the recommendation id."""

    def step(request: pb.RecommendRequest, _: grpc.ServicerContext) -> pb.RecommendResponse:
        return pb.RecommendResponse(bundle_version=name, recommendation_id=request.user_id)

    return step


def answer(response: pb.RecommendResponse) -> Step:
    """Answer with `response`."""
    return lambda _request, _context: response


def fail(code: grpc.StatusCode, message: str, *details: Message) -> Step:
    """Fail with a status and google.rpc details."""

    def step(_: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status raises")

    return step


class ScriptedGateway(gateway_pb2_grpc.RecommendationServiceServicer):
    """Takes one step of its script for each attempt, and `default` when the script is over.

    `requests`, `metadata` and `remaining_s` hold what each attempt brought, in order.
    """

    def __init__(self, default: Step) -> None:
        self.script: deque[Step] = deque()
        self.default = default
        self.address = ""
        self.requests: list[pb.RecommendRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.remaining_s: list[float] = []
        self.health = health.HealthServicer()
        self._ended = threading.Event()

    def Recommend(  # noqa: N802  the stub names it
        self, request: pb.RecommendRequest, context: grpc.ServicerContext
    ) -> pb.RecommendResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining_s.append(context.time_remaining())
        step = self.script.popleft() if self.script else self.default
        return step(request, context)

    def hang(self, _: pb.RecommendRequest, __: grpc.ServicerContext) -> pb.RecommendResponse:
        """Be a step that answers when the test is over."""
        self._ended.wait()
        return pb.RecommendResponse()

    def set_serving(self, is_serving: bool) -> None:
        """Tell the health service's watchers."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        self.health.set("", status.SERVING if is_serving else status.NOT_SERVING)

    @contextmanager
    def serving(self, address: str = "127.0.0.1:0") -> Iterator["ScriptedGateway"]:
        """Serve on loopback until the block ends."""
        with ThreadPoolExecutor(max_workers=24) as pool:
            server = grpc.server(pool)
            gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(self, server)
            health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
            reflection.enable_server_reflection(
                (
                    pb.DESCRIPTOR.services_by_name["RecommendationService"].full_name,
                    reflection.SERVICE_NAME,
                ),
                server,
            )
            port = server.add_insecure_port(address)
            self.address = f"127.0.0.1:{port}"
            server.start()
            try:
                yield self
            finally:
                self._ended.set()
                server.stop(grace=None).wait()


def main() -> None:
    """Serve until killed."""
    with ScriptedGateway(echo(sys.argv[1])).serving() as gateway:
        print(gateway.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
