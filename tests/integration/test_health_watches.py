"""Health watches that come and go never hold up a server."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.meshkit_children import child
from tests.integration.meshkit_echo import ECHO

ROUNDS = 25
WATCHES = 40
OPEN = 5


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_server_outlives_watches_that_end_while_others_begin(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind) as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch
            echo: Any = channel.unary_unary(ECHO)
            for _ in range(ROUNDS):
                watches = []
                for _ in range(WATCHES):
                    watches.append(watch(health_pb2.HealthCheckRequest()))
                    if len(watches) > OPEN:
                        watches.pop(0).cancel()
                for each in watches:
                    each.cancel()

                assert echo(b"there", timeout=20).endswith(b"there")
