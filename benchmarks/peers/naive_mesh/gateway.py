"""Serve the naive mesh's gateway: `python -m benchmarks.peers.naive_mesh.gateway`.

It speaks the mesh's own public contract; its calls to sources and ranker are `naive.proto`'s.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from benchmarks.peers.config import PeerConfig
from benchmarks.peers.naive_mesh.gen import naive_pb2, naive_pb2_grpc
from benchmarks.peers.naive_mesh.server import serve, trace_calls
from benchmarks.peers.parts import CANDIDATES_PER_SOURCE, Desk, is_ranked
from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.gateway.domain.recommend import NOT_ASKED
from services.gateway.domain.values import (
    Merged,
    RankerAnswer,
    SourceAnswer,
    SourceStatus,
    Subject,
)
from services.gateway.servicer import read_ask, write_answer
from signals.tiers import Tier

if TYPE_CHECKING:
    # Types of the stubs only: grpc makes the same stub for both kinds of channel.
    from benchmarks.peers.naive_mesh.gen.naive_pb2_grpc import (
        CandidatesAsyncStub,
        RankerAsyncStub,
    )

TIMEOUT_S = 5.0


class Gateway(gateway_pb2_grpc.RecommendationServiceServicer):
    """Asks every source, then the ranker."""

    def __init__(
        self,
        desk: Desk,
        sources: "Mapping[str, CandidatesAsyncStub]",
        ranker: "RankerAsyncStub",
    ) -> None:
        self._desk = desk
        self._sources = sources
        self._ranker = ranker

    async def Recommend(  # noqa: N802 - gRPC's own name
        self,
        request: gateway_pb2.RecommendRequest,
        _context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> gateway_pb2.RecommendResponse:
        """Return one slate."""
        ask = read_ask(request)
        subject = self._desk.subject_of(ask)
        plays = write_plays(subject)
        answers = await asyncio.gather(
            *(self._generate(name, subject, plays) for name in self._sources)
        )
        candidates, removed = self._desk.to_rank(answers, subject)
        ranker = NOT_ASKED
        if is_ranked(candidates, subject):
            ranker = await self._rank(candidates, plays)
        answer = self._desk.answer(ask, subject, answers, removed, candidates, ranker)
        return write_answer(answer, self._desk.texts)

    async def _generate(
        self, name: str, subject: Subject, plays: Sequence[naive_pb2.Play]
    ) -> SourceAnswer:
        started_s = time.monotonic()
        response = await self._sources[name].Generate(
            naive_pb2.GenerateRequest(
                limit=CANDIDATES_PER_SOURCE,
                plays=plays,
                seen_filter=subject.history.seen_filter,
                exclude_rows=subject.exclude_rows.tolist(),
                market=subject.market,
            ),
            timeout=TIMEOUT_S,
        )
        return SourceAnswer(
            source=name,
            status=SourceStatus.OK,
            rows=np.array([each.row for each in response.candidates], dtype=np.uint32),
            scores=np.array([each.score for each in response.candidates], dtype=np.float32),
            latency_s=time.monotonic() - started_s,
            tier=Tier(response.tier),
        )

    async def _rank(self, candidates: Merged, plays: Sequence[naive_pb2.Play]) -> RankerAnswer:
        started_s = time.monotonic()
        response = await self._ranker.Rank(
            naive_pb2.RankRequest(candidates=write_candidates(candidates), plays=plays),
            timeout=TIMEOUT_S,
        )
        scores = np.array([each.score for each in response.scores], dtype=np.float32)
        return RankerAnswer(scores, failed=False, latency_s=time.monotonic() - started_s)


def write_plays(subject: Subject) -> list[naive_pb2.Play]:
    """Return the history, a message a play."""
    history = subject.history
    return [
        naive_pb2.Play(row=row, age_s=age_s)
        for row, age_s in zip(history.rows.tolist(), history.ages_s.tolist(), strict=True)
    ]


def write_candidates(candidates: Merged) -> list[naive_pb2.RankedCandidate]:
    """Return the candidates, a message each, with what each source said."""
    said = {
        name: (column.ranks.tolist(), column.scores.tolist())
        for name, column in candidates.columns.items()
    }
    return [
        naive_pb2.RankedCandidate(
            row=row,
            proposals=[
                naive_pb2.Proposal(source=name, rank=ranks[place], score=scores[place])
                for name, (ranks, scores) in said.items()
                if ranks[place]
            ],
        )
        for place, row in enumerate(candidates.rows.tolist())
    ]


async def main(config: PeerConfig) -> None:
    """Serve until told to stop."""
    trace_calls("gateway")
    addresses = dict(each.split("=") for each in config.sources.split(","))
    sources = {
        name: cast(
            "CandidatesAsyncStub",
            naive_pb2_grpc.CandidatesStub(grpc.aio.insecure_channel(address)),
        )
        for name, address in addresses.items()
    }
    ranker = cast(
        "RankerAsyncStub", naive_pb2_grpc.RankerStub(grpc.aio.insecure_channel(config.ranker))
    )
    gateway = Gateway(Desk.open(config.open_bundle()), sources, ranker)
    await serve(
        config,
        lambda server: gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(
            gateway, server
        ),
    )


if __name__ == "__main__":
    with explained_exit(BundleError):
        asyncio.run(main(read_environment(PeerConfig, os.environ)))
