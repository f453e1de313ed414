"""`meshctl status` on a mesh of real processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.status import status
from tests.integration.stand_in_mesh import specs


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMesh]:
    """A mesh in the current directory, not started."""
    monkeypatch.chdir(tmp_path)
    with LocalMesh(
        specs({}),
        state_directory=Path(".recmesh"),
        facts=MeshFacts("bundles", "bundle"),
        say=lambda _: None,
    ) as mesh:
        yield mesh


def run_status(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(status)
    return CliRunner().invoke(app, arguments)


def test_a_serving_mesh_is_shown_with_exit_status_0(mesh: LocalMesh) -> None:
    mesh.start()

    result = run_status("--json")

    shown = {process["name"]: process for process in json.loads(result.stdout)["processes"]}
    assert result.exit_code == 0
    assert shown["leaf-a"]["address"] == mesh.address("leaf-a")
    assert {process["health"] for process in shown.values()} == {"SERVING"}


def test_a_dead_process_is_shown_with_exit_status_1(mesh: LocalMesh) -> None:
    mesh.start()
    leaf = next(process for process in mesh.processes() if process.name == "leaf-b")
    os.kill(leaf.pid, signal.SIGKILL)
    os.waitid(os.P_PID, leaf.pid, os.WEXITED | os.WNOWAIT)

    result = run_status("--json")

    shown = {process["name"]: process for process in json.loads(result.stdout)["processes"]}
    assert result.exit_code == 1
    assert (shown["leaf-b"]["alive"], shown["leaf-b"]["health"]) == (False, "UNREACHABLE")
    assert (shown["leaf-a"]["alive"], shown["leaf-a"]["health"]) == (True, "SERVING")


def test_the_table_names_every_process(mesh: LocalMesh) -> None:
    mesh.start()

    table = run_status().stdout

    for process in mesh.processes():
        assert process.name in table
        assert process.address in table
        assert str(process.pid) in table


@pytest.mark.usefixtures("mesh")
def test_without_a_mesh_it_says_how_to_start_one() -> None:
    result = run_status()

    assert result.exit_code == 1
    assert "meshctl up" in result.stderr
