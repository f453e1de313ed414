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
from tests.integration.meshkit_children import ROOT, child, free_port


def test_a_server_that_serves_is_healthy(tmp_path: Path) -> None:
    with child(tmp_path, "sync") as server:
        server.wait_until_serving()

        # As a container does it: a program of its own, the address from the environment.
        run = subprocess.run(
            [sys.executable, "-m", "meshkit.health_probe"],
            cwd=ROOT,
            env={"RECMESH_LISTEN": server.address},
            capture_output=True,
            text=True,
            check=False,
        )

    assert (run.returncode, run.stdout) == (0, "SERVING\n")


def test_a_server_that_does_not_serve_yet_is_not_healthy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert main([f"127.0.0.1:{port}"], {}) == 1
    finally:
        server.stop(None)

    assert capsys.readouterr().out == "NOT_SERVING\n"


def test_an_address_where_nobody_listens_is_not_healthy() -> None:
    assert probe(f"127.0.0.1:{free_port()}") == "no answer: UNAVAILABLE"


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
