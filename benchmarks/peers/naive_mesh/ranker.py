"""Serve the naive mesh's ranker: `python -m benchmarks.peers.naive_mesh.ranker`."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from benchmarks.peers.config import PeerConfig
from benchmarks.peers.naive_mesh.gen import naive_pb2, naive_pb2_grpc
from benchmarks.peers.naive_mesh.server import serve, trace_calls
from benchmarks.peers.parts import Scorer
from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.ranker.domain.values import SourceColumn


class Ranker(naive_pb2_grpc.RankerServicer):
    """Scores with one model."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def Rank(  # noqa: N802 - gRPC's own name
        self, request: naive_pb2.RankRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> naive_pb2.RankResponse:
        """Return the score of every candidate."""
        rows = [candidate.row for candidate in request.candidates]
        scores = self._scorer.score(
            np.array(rows, dtype=np.uint32),
            read_columns(request.candidates),
            np.array([play.row for play in request.plays], dtype=np.uint32),
            np.array([play.age_s for play in request.plays], dtype=np.float32),
        )
        return naive_pb2.RankResponse(
            scores=[
                naive_pb2.Score(row=row, score=score)
                for row, score in zip(rows, scores.tolist(), strict=True)
            ]
        )


def read_columns(candidates: Sequence[naive_pb2.RankedCandidate]) -> dict[str, SourceColumn]:
    """Return what each source said of the candidates, as the features read it."""
    columns: dict[str, SourceColumn] = {}
    for place, candidate in enumerate(candidates):
        for proposal in candidate.proposals:
            if proposal.source not in columns:
                columns[proposal.source] = _empty_column(len(candidates))
            columns[proposal.source].ranks[place] = proposal.rank
            columns[proposal.source].scores[place] = proposal.score
    return columns


def _empty_column(length: int) -> SourceColumn:
    return SourceColumn(np.zeros(length, dtype=np.uint32), np.zeros(length, dtype=np.float32))


async def main(config: PeerConfig) -> None:
    """Serve until told to stop."""
    trace_calls("ranker")
    scorer = Scorer.open(config.open_bundle(), config.model)
    await serve(
        config,
        lambda server: naive_pb2_grpc.add_RankerServicer_to_server(Ranker(scorer), server),
    )


if __name__ == "__main__":
    with explained_exit(BundleError):
        asyncio.run(main(read_environment(PeerConfig, os.environ)))
