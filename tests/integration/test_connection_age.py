"""Connections end by themselves now and then, and no call notices."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshkit.channels import open_channel
from tests.integration.meshkit_children import child
from tests.integration.meshkit_echo import ECHO

AGE_S = 1.0
CALLS_S = 4.0


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_no_call_fails_while_connections_end_of_age(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind, RECMESH_MAX_CONNECTION_AGE_S=str(AGE_S)) as server:
        server.wait_until_serving()

        answers, peers = asyncio.run(_call_for(CALLS_S, server.address))

    assert answers > 50
    assert len(peers) > 1


async def _call_for(seconds: float, address: str) -> tuple[int, set[str]]:
    """Return how many calls were answered, and the callers' addresses that they had."""
    answers, peers = 0, set()
    async with open_channel([address], retry_on=[grpc.StatusCode.UNAVAILABLE]) as channel:
        await channel.channel_ready()
        echo: Any = channel.unary_unary(ECHO)
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            await echo(b"x", timeout=20)
            answers += 1
            peers.add(_callers_end(address))
    return answers, peers


def _callers_end(address: str) -> str:
    """Return the caller's end of the connection to `address`, as the kernel has it now."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    columns = [line.split() for table in tables for line in table.splitlines()[1:]]
    established = "01"
    return ",".join(
        sorted(c[1] for c in columns if c[2].endswith(f":{port}") and c[3] == established)
    )
