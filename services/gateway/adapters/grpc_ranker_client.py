"""The ranker over gRPC: scores, or that there are none."""

import logging
import time
from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from recmesh.ranker.v1 import ranker_pb2
from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceStub

from meshkit.telemetry import inject
from services.gateway.adapters.messages import write_history
from services.gateway.domain.values import Merged, RankerAnswer, Subject

if TYPE_CHECKING:
    # A type of the stubs only: grpc makes the same stub for both kinds of channel.
    from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceAsyncStub

_log = logging.getLogger(__name__)


class GrpcRankerClient:
    """Answers `RankerClient` through one channel, for one bundle version."""

    def __init__(self, channel: grpc.aio.Channel, bundle_version: str) -> None:
        self._rank = cast("RankerServiceAsyncStub", RankerServiceStub(channel)).Rank
        self._bundle_version = bundle_version

    async def rank(self, candidates: Merged, subject: Subject, *, timeout_s: float) -> RankerAnswer:
        """Ask once. The call ends by its own timeout and is never cancelled: that would leak."""
        request = self._write(candidates, subject)
        started_s = time.monotonic()
        try:
            response = await self._rank(request, timeout=timeout_s, metadata=inject())
        except grpc.aio.AioRpcError as exc:
            _log.warning("the ranker gave no scores: %s", exc.code().name)
            return RankerAnswer(None, failed=True, latency_s=time.monotonic() - started_s)
        latency_s = time.monotonic() - started_s
        scores = np.array(response.scores, dtype=np.float32)
        keeps_contract = (
            response.bundle_version == self._bundle_version
            and len(scores) == len(candidates.rows)
            and bool(np.isfinite(scores).all())
        )
        if not keeps_contract:
            _log.error("the ranker's answer breaks its contract")
            return RankerAnswer(None, failed=True, latency_s=latency_s)
        return RankerAnswer(scores, failed=False, latency_s=latency_s)

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
