"""Serve one source of the naive mesh: `python -m benchmarks.peers.naive_mesh.source`."""

import asyncio
import os
from typing import Any

import grpc
import numpy as np

from benchmarks.peers.config import PeerConfig
from benchmarks.peers.naive_mesh.gen import naive_pb2, naive_pb2_grpc
from benchmarks.peers.naive_mesh.server import serve, trace_calls
from benchmarks.peers.parts import open_source
from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.candidates.domain.values import CandidateSource, Query


class Candidates(naive_pb2_grpc.CandidatesServicer):
    """Answers from one source."""

    def __init__(self, source: CandidateSource) -> None:
        self._source = source

    async def Generate(  # noqa: N802 - gRPC's own name
        self,
        request: naive_pb2.GenerateRequest,
        _context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> naive_pb2.GenerateResponse:
        """Return the source's candidates."""
        found = self._source.generate(
            Query(
                limit=request.limit,
                history_rows=np.array([play.row for play in request.plays], dtype=np.uint32),
                seen_filter=request.seen_filter,
                exclude_rows=np.array(request.exclude_rows, dtype=np.uint32),
                market=request.market,
            )
        )
        return naive_pb2.GenerateResponse(
            candidates=[
                naive_pb2.Candidate(row=row, score=score)
                for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            ],
            tier=int(found.tier),
        )


async def main(config: PeerConfig) -> None:
    """Serve until told to stop."""
    trace_calls(f"candidates-{config.source}")
    candidates = Candidates(open_source(config.source, config.open_bundle()))
    await serve(
        config,
        lambda server: naive_pb2_grpc.add_CandidatesServicer_to_server(candidates, server),
    )


if __name__ == "__main__":
    with explained_exit(BundleError):
        asyncio.run(main(read_environment(PeerConfig, os.environ)))
