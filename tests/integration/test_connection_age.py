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
CONNECTIONS = 3  # two of them ended, with calls before and after
PATIENCE_S = 60.0


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_no_call_fails_while_connections_end_of_age(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind, RECMESH_MAX_CONNECTION_AGE_S=str(AGE_S)) as server:
        server.wait_until_serving()

        connections = asyncio.run(_call_through(CONNECTIONS, server.address))

    assert len(connections) >= CONNECTIONS


async def _call_through(connections: int, address: str) -> set[str]:
    """Call without a pause, all calls answered, until so many connections were seen; return them.

    Gives up after `PATIENCE_S` with fewer.
    """
    seen: set[str] = set()
    async with open_channel([address], retry_on=[grpc.StatusCode.UNAVAILABLE]) as channel:
        await channel.channel_ready()
        echo: Any = channel.unary_unary(ECHO)
        ends_s = time.monotonic() + PATIENCE_S
        while len(seen) < connections and time.monotonic() < ends_s:
            await echo(b"x", timeout=PATIENCE_S)
            seen |= _callers_ends(address)
    return seen


def _callers_ends(address: str) -> set[str]:
    """Return the caller's ends of connections to `address`, as the kernel has them now."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    columns = [line.split() for table in tables for line in table.splitlines()[1:]]
    established = "01"
    return {c[1] for c in columns if c[2].endswith(f":{port}") and c[3] == established}
