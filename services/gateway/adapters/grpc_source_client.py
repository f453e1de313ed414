"""A source over gRPC: what it answers, or the status of why it does not."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2
from recmesh.candidates.v1.candidates_pb2_grpc import CandidateServiceStub

from meshkit.telemetry import inject
from services.gateway.adapters.leaf_log import ANSWERS, LeafLog
from services.gateway.adapters.messages import write_history
from services.gateway.domain.recommend import no_answer
from services.gateway.domain.values import SourceAnswer, SourceStatus, Subject

if TYPE_CHECKING:
    # A type of the stubs only: grpc makes the same stub for both kinds of channel.
    from recmesh.candidates.v1.candidates_pb2_grpc import CandidateServiceAsyncStub

_STATUS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: SourceStatus.TIMEOUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: SourceStatus.SHED,
}

MAX_DATA_AGE_S = 315_576_000_000.0  # what google.protobuf.Duration allows; a timedelta holds it


class GrpcSourceClient:
    """Answers `SourceClient` through one channel, for one bundle version."""

    def __init__(
        self, source: str, channel: grpc.aio.Channel, bundle_version: str, n_items: int
    ) -> None:
        self._source = source
        self._generate = cast("CandidateServiceAsyncStub", CandidateServiceStub(channel)).Generate
        self._bundle_version = bundle_version
        self._n_items = n_items
        self._log = LeafLog(f"source {source}")

    async def generate(self, subject: Subject, *, limit: int, timeout_s: float) -> SourceAnswer:
        """Ask once. The call ends by its own timeout and is never cancelled: that would leak."""
        request = candidates_pb2.GenerateRequest(
            bundle_version=self._bundle_version,
            limit=limit,
            history=write_history(subject.history),
            market=subject.market,
            exclude_rows=subject.exclude_rows.tolist(),
        )
        started_s = time.monotonic()
        try:
            response = await self._generate(request, timeout=timeout_s, metadata=inject())
        except grpc.aio.AioRpcError as exc:
            self._log.note(exc.code().name)
            status = _STATUS.get(exc.code(), SourceStatus.ERROR)
            answer = no_answer(self._source, status, time.monotonic() - started_s)
            return replace(answer, has_moved=exc.code() is grpc.StatusCode.FAILED_PRECONDITION)
        latency_s = time.monotonic() - started_s
        if response is None:  # what grpc.aio makes of bytes that it cannot decode
            self._log.note("its answer cannot be decoded")
            return no_answer(self._source, SourceStatus.ERROR, latency_s)
        return self._read(response, limit, latency_s)

    def _read(
        self, response: candidates_pb2.GenerateResponse, limit: int, latency_s: float
    ) -> SourceAnswer:
        """Return the answer, or ERROR where it breaks the contract: a wrong row is no item."""
        rows = np.array(response.rows, dtype=np.uint32)
        scores = np.array(response.scores, dtype=np.float32)
        data_age_s = _data_age_s(response)
        keeps_contract = (
            response.bundle_version == self._bundle_version
            and len(rows) == len(scores)
            and bool(np.isfinite(scores).all())
            and bool((rows < self._n_items).all())
            and 0 <= (data_age_s or 0) <= MAX_DATA_AGE_S
        )
        self._log.note(ANSWERS if keeps_contract else "its answer breaks the contract")
        if not keeps_contract:
            return no_answer(self._source, SourceStatus.ERROR, latency_s)
        return SourceAnswer(
            source=self._source,
            status=SourceStatus.STALE if response.is_stale else SourceStatus.OK,
            rows=rows[:limit],
            scores=scores[:limit],
            latency_s=latency_s,
            data_age_s=data_age_s,
        )


def _data_age_s(response: candidates_pb2.GenerateResponse) -> float | None:
    if not response.HasField("data_age"):
        return None
    return response.data_age.seconds + response.data_age.nanos / 1e9
