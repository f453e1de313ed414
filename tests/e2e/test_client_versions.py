"""The client's wheel, installed apart from the tree, at both ends of the versions it supports."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import (
    BadRequest,
)

from tests.integration.client_wheel import ROOT, build_client_wheel
from tests.integration.scripted_gateway import ScriptedGateway, echo, fail

pytestmark = [
    pytest.mark.versions,  # installs from the package registry
    pytest.mark.timeout(600),
]

OLDEST_LOCK = ROOT / "requirements" / "client-oldest.lock"

# What a client team writes: it sees the wheel and its dependencies, nothing of this repository.
CALLER = """
import asyncio, importlib.metadata, importlib.util, json, sys

import grpc
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from recmesh_client import AsyncRecommendationClient, InvalidRequest, RecommendationClient

serving, not_serving, refusing = sys.argv[1:]


async def asynchronously():
    async with AsyncRecommendationClient([serving, not_serving], default_timeout_s=30) as client:
        await client.wait_until_ready(30)
        return [(await client.recommend("ada")).recommendation_id for _ in range(6)]


def blocking():
    with RecommendationClient(serving, default_timeout_s=30) as client:
        return client.recommend("ben").recommendation_id


def refused():
    with RecommendationClient(refusing, default_timeout_s=30) as client:
        try:
            client.recommend(page_size=201)
        except InvalidRequest as error:
            return [violation.field for violation in error.violations]


def by_stub():
    with grpc.insecure_channel(serving) as channel:
        stub = gateway_pb2_grpc.RecommendationServiceStub(channel)
        request = gateway_pb2.RecommendRequest(user_id="cyd")
        return stub.Recommend(request, timeout=30).recommendation_id


print(json.dumps({
    "answers": [*asyncio.run(asynchronously()), blocking(), by_stub()],
    "violations": refused(),
    "server_stack": [n for n in ("numpy", "meshkit", "services") if importlib.util.find_spec(n)],
    "versions": [
        f"{distribution.name}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
    ],
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def gateways() -> Iterator[tuple[ScriptedGateway, ScriptedGateway, ScriptedGateway]]:
    violation = {"field": "page_size", "description": "is 201, at most 200"}
    refusal = fail(
        grpc.StatusCode.INVALID_ARGUMENT, "page_size", BadRequest(field_violations=[violation])
    )
    with (
        ScriptedGateway(echo("v1")).serving() as serving,
        ScriptedGateway(echo("v1")).serving() as not_serving,
        ScriptedGateway(refusal).serving() as refusing,
    ):
        not_serving.set_serving(False)
        yield serving, not_serving, refusing


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_a_caller_outside_of_the_tree_is_answered_at_the(
    end: str,
    wheel: Path,
    gateways: tuple[ScriptedGateway, ScriptedGateway, ScriptedGateway],
    tmp_path: Path,
) -> None:
    python = _new_environment(tmp_path / "venv")
    if end == "oldest":
        _run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(OLDEST_LOCK))
        _run(python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    else:
        _run(python, "-m", "pip", "install", "--quiet", str(wheel))
    (tmp_path / "caller.py").write_text(CALLER, encoding="utf-8")

    said = json.loads(
        # -I: no current directory, no PYTHONPATH. -W error: importing the client warns of nothing.
        _run(
            python, "-I", "-W", "error", str(tmp_path / "caller.py"), *(g.address for g in gateways)
        )
    )

    assert said["answers"] == ["ada"] * 6 + ["ben", "cyd"]
    assert gateways[1].requests == []
    assert said["violations"] == ["page_size"]
    assert said["server_stack"] == []
    if end == "oldest":
        assert _pins() <= set(said["versions"])


def _new_environment(directory: Path) -> str:
    _run(sys.executable, "-m", "venv", str(directory))
    return str(directory / "bin" / "python")


def _pins() -> set[str]:
    lines = OLDEST_LOCK.read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if "==" in line and line[0].isalpha()}


def _run(*command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
