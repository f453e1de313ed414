"""A real gRPC server that is a candidate source or a ranker and does what a test tells it to."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import (
    health,
    health_pb2,
    health_pb2_grpc,
)
from recmesh.candidates.v1 import candidates_pb2
from recmesh.ranker.v1 import ranker_pb2

Step = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True, slots=True)
class LeafCall:
    """One call, as the leaf saw it when it came."""

    request: Any
    metadata: dict[str, str | bytes]
    remaining_s: float
    context: grpc.ServicerContext


def propose(rows: Sequence[int]) -> Step:
    """Be a source that proposes `rows`, the first best."""

    def step(
        request: candidates_pb2.GenerateRequest, _: grpc.ServicerContext
    ) -> candidates_pb2.GenerateResponse:
        scores = [float(len(rows) - place) for place in range(len(rows))]
        return candidates_pb2.GenerateResponse(
            bundle_version=request.bundle_version, rows=rows, scores=scores
        )

    return step


def prefer_high_rows(
    request: ranker_pb2.RankRequest, _: grpc.ServicerContext
) -> ranker_pb2.RankResponse:
    """Be a ranker whose score is the row."""
    scores = [float(row) for row in request.rows]
    return ranker_pb2.RankResponse(bundle_version=request.bundle_version, scores=scores)


def changed(step: Step, change: Callable[[Any], None]) -> Step:
    """Answer what `step` would, after `change`."""

    def changing(request: Any, context: grpc.ServicerContext) -> Any:
        response = step(request, context)
        change(response)
        return response

    return changing


def fail(code: grpc.StatusCode, message: str) -> Step:
    """Fail with a status."""

    def step(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, message)

    return step


def blow_up(message: str) -> Step:
    """Raise what no handler should."""

    def step(_request: Any, _context: grpc.ServicerContext) -> Any:
        raise RuntimeError(message)

    return step


def garble(_request: Any, _context: grpc.ServicerContext) -> bytes:
    """Answer bytes that are no message."""
    return b"\xff" * 4


_SERVICES = {"candidates": "CandidateService", "ranker": "RankerService"}


def _handler(
    package: str, method: str, leaf: "ScriptedLeaf", request_type: Any
) -> grpc.GenericRpcHandler:
    """Serve one method by hand, so that a step may answer raw bytes."""
    return grpc.method_handlers_generic_handler(
        f"recmesh.{package}.v1.{_SERVICES[package]}",
        {
            method: grpc.unary_unary_rpc_method_handler(
                leaf.take,
                request_deserializer=request_type.FromString,
                response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            )
        },
    )


class ScriptedLeaf:
    """Takes `step` at every call and remembers the calls; its health names `versions`."""

    def __init__(self, default: Step, *versions: str) -> None:
        self.default = default
        self.step = default
        self.calls: list[LeafCall] = []
        self.address = ""
        self._versions = versions
        self._released = threading.Event()

    def hang(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """Be a step that does not answer before the script is reset."""
        self._released.wait()

    def reset(self) -> None:
        """Let go of hanging calls, forget the calls and answer well from now on."""
        self._released.set()
        self._released = threading.Event()
        self.step = self.default
        self.calls = []

    def take(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Note the call and do the step."""
        metadata = dict(context.invocation_metadata())
        self.calls.append(LeafCall(request, metadata, context.time_remaining(), context))
        return self.step(request, context)

    @contextmanager
    def serving(self) -> Iterator["ScriptedLeaf"]:
        """Serve on loopback until the block ends."""
        checks = health.HealthServicer()
        for name in ("", *self._versions):
            checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        with ThreadPoolExecutor(max_workers=16) as pool:
            server = grpc.server(pool)
            server.add_generic_rpc_handlers(
                (
                    _handler("candidates", "Generate", self, candidates_pb2.GenerateRequest),
                    _handler("ranker", "Rank", self, ranker_pb2.RankRequest),
                )
            )
            health_pb2_grpc.add_HealthServicer_to_server(checks, server)
            self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            try:
                yield self
            finally:
                self._released.set()
                checks.enter_graceful_shutdown()
                server.stop(grace=None).wait()
