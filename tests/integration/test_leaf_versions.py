"""The gateway hears from every worker by itself which versions it holds."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.gateway.adapters.leaf_versions import LeafVersions
from tests.integration.meshkit_children import free_port


@contextmanager
def worker(*versions: str, has_health: bool = True) -> Iterator[str]:
    """Serve the health of `versions`; yield the address."""
    checks = health.HealthServicer()
    for version in ("", *versions):
        checks.set(version, health_pb2.HealthCheckResponse.SERVING)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        if has_health:
            health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


def hold(version: str, *addresses: str) -> bool:
    """Tell whether they do; who is late is not heard, so "no" has three tries on a slow machine."""
    return all(_hold(version, *addresses) for _ in range(3))


def _hold(version: str, *addresses: str) -> bool:
    async def ask() -> bool:
        leaves = LeafVersions(addresses)
        try:
            return await leaves.hold(version)
        finally:
            await leaves.close()

    return asyncio.run(ask())


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


def test_a_version_is_held_when_every_worker_says_so(running: ExitStack) -> None:
    both, one = running.enter_context(worker("v1", "v2")), running.enter_context(worker("v1"))

    assert hold("v1", both, one)
    assert not hold("v2", both, one)
    assert hold("v2", both)


def test_a_worker_that_cannot_be_reached_holds_nothing_up(running: ExitStack) -> None:
    reached = running.enter_context(worker("v1"))

    assert hold("v1", reached, f"127.0.0.1:{free_port()}")


def test_a_host_name_stands_for_its_workers(running: ExitStack) -> None:
    port = running.enter_context(worker("v1")).rpartition(":")[2]

    assert hold("v1", f"localhost:{port}")
    assert not hold("v2", f"localhost:{port}")


def test_a_server_without_a_health_service_is_taken_as_it_is_by_channels(
    running: ExitStack,
) -> None:
    assert hold("v1", running.enter_context(worker(has_health=False)))
