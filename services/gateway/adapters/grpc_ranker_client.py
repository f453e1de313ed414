"""The ranker over gRPC: scores, or that there are none."""

from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from recmesh.ranker.v1 import ranker_pb2
from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceStub

from meshkit.columns import append_floats, append_uints
from services.gateway.adapters.leaf_call import Answered, Leaf, LeafCall
from services.gateway.adapters.leaf_metrics import LeafMetrics
from services.gateway.adapters.messages import HistoryWriter
from services.gateway.domain.contract import scores_fit
from services.gateway.domain.failures import Failure
from services.gateway.domain.hedging import Hedging
from services.gateway.domain.recommend import RANKER
from services.gateway.domain.values import Merged, RankerAnswer, Subject

if TYPE_CHECKING:
    # A type of the stubs only: grpc makes the same stub for both kinds of channel.
    from recmesh.ranker.v1.ranker_pb2_grpc import RankerServiceAsyncStub

METHOD = f"{ranker_pb2.DESCRIPTOR.services_by_name['RankerService'].full_name}/Rank"


class GrpcRankerClient:
    """Answers `RankerClient` through one channel, for one bundle version."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        bundle_version: str,
        hedging: Hedging | None = None,
        metrics: LeafMetrics | None = None,
        histories: HistoryWriter | None = None,
    ) -> None:
        stub = cast("RankerServiceAsyncStub", RankerServiceStub(channel))
        self._call = LeafCall[ranker_pb2.RankResponse](
            Leaf(RANKER, METHOD), stub.Rank, hedging, metrics
        )
        self._bundle_version = bundle_version
        self._histories = histories or HistoryWriter()

    async def rank(self, candidates: Merged, subject: Subject, *, timeout_s: float) -> RankerAnswer:
        """Return the model's scores, or that the ranker failed."""
        result = await self._call(self._write(candidates, subject), timeout_s=timeout_s)
        if isinstance(result, Answered):
            scores = np.array(result.response.scores, dtype=np.float32)
            answer = RankerAnswer(scores, failed=False, latency_s=result.latency_s)
            is_ours = result.response.bundle_version == self._bundle_version
            if is_ours and scores_fit(answer, len(candidates.rows)):
                return answer
            result = self._call.broken(result)
        has_moved = result.failure is Failure.MOVED
        return RankerAnswer(None, failed=True, latency_s=result.latency_s, has_moved=has_moved)

    def _write(self, candidates: Merged, subject: Subject) -> ranker_pb2.RankRequest:
        request = ranker_pb2.RankRequest(
            bundle_version=self._bundle_version,
            history=self._histories.write(subject.history),
            market=subject.market,
        )
        append_uints(request, "rows", candidates.rows)
        for name, column in candidates.columns.items():
            written = request.sources.add(source=name)
            append_uints(written, "ranks", column.ranks)
            append_floats(written, "scores", column.scores)
        return request
