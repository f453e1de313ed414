"""Which versions the workers of the leaves hold, as their health services say."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.addresses import split_address
from meshkit.channels import CHANNEL_OPTIONS

TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)


class Word(Enum):
    """What one worker says of one version."""

    HELD = auto()
    NOT_HELD = auto()
    UNREACHABLE = auto()


class LeafVersions:
    """Asks every worker behind `addresses`, each by itself; made inside the event loop."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._noted = ""

    async def hold(self, version: str) -> bool:
        """Tell whether every worker that can be reached holds `version`.

        One that cannot be reached serves no version, and has the current one when it is back.
        """
        workers = await self._workers()
        await self._keep_only(workers)
        words = await asyncio.gather(*(self._ask(worker, version) for worker in workers))
        pairs = zip(workers, words, strict=True)
        missing = [worker for worker, word in pairs if word is Word.NOT_HELD]
        self._note(version, missing)
        return not missing

    async def close(self) -> None:
        """Close every channel."""
        await self._keep_only(())

    def _note(self, version: str, missing: Sequence[str]) -> None:
        """Log who does not hold a version, once for as long as it is the same."""
        text = f"version {version} is not held yet by {', '.join(missing)}"
        if missing and text != self._noted:
            _log.info("%s", text)
            self._noted = text

    async def _workers(self) -> list[str]:
        """Return the numeric address of every worker; a host name may stand for several."""
        found = await asyncio.gather(*(_resolve(address) for address in self._addresses))
        return sorted({worker for workers in found for worker in workers})

    async def _ask(self, worker: str, version: str) -> Word:
        if worker not in self._channels:
            self._channels[worker] = grpc.aio.insecure_channel(worker, options=CHANNEL_OPTIONS)
        check: Any = health_pb2_grpc.HealthStub(self._channels[worker]).Check
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=version), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return _WORDS.get(error.code(), Word.NOT_HELD)
        is_serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        return Word.HELD if is_serving else Word.NOT_HELD

    async def _keep_only(self, workers: Collection[str]) -> None:
        for worker in self._channels.keys() - set(workers):
            await self._channels.pop(worker).close()


_WORDS = {
    grpc.StatusCode.UNAVAILABLE: Word.UNREACHABLE,
    # As gRPC's own client-side checks do: a server without a health service is healthy.
    grpc.StatusCode.UNIMPLEMENTED: Word.HELD,
}


async def _resolve(address: str) -> list[str]:
    host, port = split_address(address)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return await _look_up(host, port)
    return [address]


async def _look_up(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = {str(to[0]) for *_, to in found}
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts]
