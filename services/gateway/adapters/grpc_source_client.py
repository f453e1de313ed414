"""A source over gRPC: what it answers, or the status of why it does not."""

from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2
from recmesh.candidates.v1.candidates_pb2_grpc import CandidateServiceStub

from meshkit.columns import append_uints
from services import attributes
from services.gateway.adapters.leaf_call import Answered, Leaf, LeafCall
from services.gateway.adapters.leaf_metrics import LeafMetrics
from services.gateway.adapters.messages import HistoryWriter
from services.gateway.domain.contract import cut, keeps_contract
from services.gateway.domain.hedging import Hedging
from services.gateway.domain.recommend import failed_answer
from services.gateway.domain.values import SourceAnswer, SourceStatus, Subject
from signals.tiers import Tier

if TYPE_CHECKING:
    # A type of the stubs only: grpc makes the same stub for both kinds of channel.
    from recmesh.candidates.v1.candidates_pb2_grpc import CandidateServiceAsyncStub

METHOD = f"{candidates_pb2.DESCRIPTOR.services_by_name['CandidateService'].full_name}/Generate"

_TIERS = {tier.value for tier in Tier}


class GrpcSourceClient:
    """Answers `SourceClient` through one channel, for one bundle version."""

    def __init__(
        self,
        source: str,
        channel: grpc.aio.Channel,
        bundle_version: str,
        n_items: int,
        hedging: Hedging | None = None,
        metrics: LeafMetrics | None = None,
        histories: HistoryWriter | None = None,
    ) -> None:
        stub = cast("CandidateServiceAsyncStub", CandidateServiceStub(channel))
        self._source = source
        self._call = LeafCall[candidates_pb2.GenerateResponse](
            Leaf(source, METHOD, is_source=True), stub.Generate, hedging, metrics
        )
        self._bundle_version = bundle_version
        self._n_items = n_items
        self._histories = histories or HistoryWriter()

    async def generate(self, subject: Subject, *, limit: int, timeout_s: float) -> SourceAnswer:
        """Return what the source answers, or the status of why it does not."""
        result = await self._call(self._write(subject, limit), timeout_s=timeout_s)
        if isinstance(result, Answered):
            answer = self._read(result)
            is_ours = result.response.bundle_version == self._bundle_version
            if is_ours and keeps_contract(answer, self._n_items):
                result.noted.note(attributes.SOURCE_STATUS, answer.status.name)
                return cut(answer, limit)
            result = self._call.broken(result)
        return failed_answer(
            self._source, result.failure, result.latency_s, is_hedged=result.is_hedged
        )

    def _write(self, subject: Subject, limit: int) -> candidates_pb2.GenerateRequest:
        request = candidates_pb2.GenerateRequest(
            bundle_version=self._bundle_version,
            limit=limit,
            history=self._histories.write(subject.history),
            market=subject.market,
        )
        append_uints(request, "exclude_rows", subject.exclude_rows)
        return request

    def _read(self, answered: Answered[candidates_pb2.GenerateResponse]) -> SourceAnswer:
        response = answered.response
        return SourceAnswer(
            source=self._source,
            status=SourceStatus.STALE if response.is_stale else SourceStatus.OK,
            rows=np.array(response.rows, dtype=np.uint32),
            scores=np.array(response.scores, dtype=np.float32),
            latency_s=answered.latency_s,
            data_age_s=_data_age_s(response),
            tier=Tier(response.tier) if response.tier in _TIERS else Tier.PERSONAL,
            is_hedged=answered.is_hedged,
        )


def _data_age_s(response: candidates_pb2.GenerateResponse) -> float | None:
    if not response.HasField("data_age"):
        return None
    return response.data_age.seconds + response.data_age.nanos / 1e9
