"""Serve the monolith: `python -m benchmarks.peers.monolith`, one process a core.

Each process has a port of its own and callers are spread evenly over them, as a balancer would,
without the balancer's cost: processes that share a socket take connections as it happens, and
one may get them all. The endpoint is `async def`, so that a request runs on the event loop: with
a process a core there is no core left for a pool of threads to use. Measured on two busy cores,
forth and back: 7.0 ms of processor a request, 7.5 as a `def` endpoint in FastAPI's pool.
"""

import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from benchmarks.peers.config import PeerConfig, announced
from benchmarks.peers.monolith.answers import Request, Response, write_answer
from benchmarks.peers.monolith.recommend import Monolith
from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment


def make_app(config: PeerConfig, address: str) -> FastAPI:
    """Return the application, which announces `address` when it serves."""
    monolith = Monolith.open(config.open_bundle(), config.model)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with announced(config.address_file, address):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/recommend")
    async def recommend(request: Request) -> Response:
        answer = monolith.recommend(request.ask())
        return write_answer(answer, monolith.desk.texts, uuid.uuid4().hex)

    return app


def serve(config: PeerConfig) -> None:
    """Serve until told to stop."""
    host, _, port = config.listen.rpartition(":")
    with socket.create_server((host, int(port)), backlog=1024) as listening:
        address = f"{host}:{listening.getsockname()[1]}"
        app = make_app(config, address)
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
        server.run(sockets=[listening])


if __name__ == "__main__":
    with explained_exit(BundleError):
        serve(read_environment(PeerConfig, os.environ))
