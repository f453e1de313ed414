"""The ranker over gRPC: scores, or that there are none."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from recmesh.ranker.v1 import ranker_pb2
from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceStub

from meshkit.telemetry import inject
from services.gateway.adapters.leaf_log import ANSWERS, LeafLog
from services.gateway.adapters.messages import write_history
from services.gateway.domain.values import Merged, RankerAnswer, Subject

if TYPE_CHECKING:
    # A type of the stubs only: grpc makes the same stub for both kinds of channel.
    from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceAsyncStub


class GrpcRankerClient:
    """Answers `RankerClient` through one channel, for one bundle version."""

    def __init__(self, channel: grpc.aio.Channel, bundle_version: str) -> None:
        self._rank = cast("RankerServiceAsyncStub", RankerServiceStub(channel)).Rank
        self._bundle_version = bundle_version
        self._log = LeafLog("ranker")

    async def rank(self, candidates: Merged, subject: Subject, *, timeout_s: float) -> RankerAnswer:
        """Ask once. The call ends by its own timeout and is never cancelled: that would leak."""
        request = self._write(candidates, subject)
        started_s = time.monotonic()
        try:
            response = await self._rank(request, timeout=timeout_s, metadata=inject())
        except grpc.aio.AioRpcError as exc:
            answer = self._failed(exc.code().name, time.monotonic() - started_s)
            return replace(answer, has_moved=exc.code() is grpc.StatusCode.FAILED_PRECONDITION)
        latency_s = time.monotonic() - started_s
        if response is None:  # what grpc.aio makes of bytes that it cannot decode
            return self._failed("its answer cannot be decoded", latency_s)
        scores = np.array(response.scores, dtype=np.float32)
        keeps_contract = (
            response.bundle_version == self._bundle_version
            and len(scores) == len(candidates.rows)
            and bool(np.isfinite(scores).all())
        )
        if not keeps_contract:
            return self._failed("its answer breaks the contract", latency_s)
        self._log.note(ANSWERS)
        return RankerAnswer(scores, failed=False, latency_s=latency_s)

    def _failed(self, fault: str, latency_s: float) -> RankerAnswer:
        self._log.note(fault)
        return RankerAnswer(None, failed=True, latency_s=latency_s)

    def _write(self, candidates: Merged, subject: Subject) -> ranker_pb2.RankRequest:
        return ranker_pb2.RankRequest(
            bundle_version=self._bundle_version,
            rows=candidates.rows.tolist(),
            sources=[
                ranker_pb2.SourceColumn(
                    source=name, ranks=column.ranks.tolist(), scores=column.scores.tolist()
                )
                for name, column in candidates.columns.items()
            ],
            history=write_history(subject.history),
            market=subject.market,
        )
