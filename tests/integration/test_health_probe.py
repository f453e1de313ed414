"""The health check of containers, against real servers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshkit.config import ConfigError
from meshkit.health_probe import main, probe
from tests.integration.meshkit_children import ROOT, child, free_port, wait_until


def test_a_server_that_serves_is_healthy(tmp_path: Path) -> None:
    with child(tmp_path, "sync") as server:
        server.wait_until_serving()

        # On a machine that stands still a probe may be too late: then the next one is not.
        wait_until(lambda: probe_as_containers_do(server.address) == (0, "SERVING\n"))


def probe_as_containers_do(address: str) -> tuple[int, str]:
    """Run a program of its own, the address from the environment; return its status and words."""
    run = subprocess.run(
        [sys.executable, "-m", "meshkit.health_probe"],
        cwd=ROOT,
        env={"RECMESH_LISTEN": address},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def test_a_server_that_does_not_serve_yet_is_not_healthy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def is_not_serving() -> bool:
        assert main([f"127.0.0.1:{port}"], {}) == 1
        return capsys.readouterr().out == "NOT_SERVING\n"

    try:
        wait_until(is_not_serving)
    finally:
        server.stop(None)


def test_an_address_where_nobody_listens_is_not_healthy() -> None:
    address = f"127.0.0.1:{free_port()}"

    wait_until(lambda: probe(address) == "no answer: UNAVAILABLE")


@pytest.mark.parametrize(
    ("arguments", "environ", "fault"),
    [
        ([], {}, "RECMESH_LISTEN"),
        (["8080"], {}, "'8080' is not host:port"),
        ([], {"RECMESH_LISTEN": "gateway"}, "'gateway' is not host:port"),
    ],
    ids=["nothing", "bad argument", "bad variable"],
)
def test_a_missing_or_bad_address_is_named(
    arguments: list[str], environ: dict[str, str], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        main(arguments, environ)
