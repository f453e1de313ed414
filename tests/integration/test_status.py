"""`meshctl status` on a mesh of real processes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.run_file import read_run
from meshctl.status import status
from tests.integration.stand_in_mesh import eventually, specs


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


def shown_by(result: Result) -> dict[str, dict[str, Any]]:
    return {process["name"]: process for process in json.loads(result.stdout)["processes"]}


def status_with(*serving: str) -> Result:
    """Return the status in which these serve: it waits a second for each, a stall may be longer."""
    results = [run_status("--json")]

    def all_serve() -> bool:
        shown = shown_by(results[-1])
        if all(shown[name]["health"] == "SERVING" for name in serving):
            return True
        results.append(run_status("--json"))
        return False

    assert eventually(all_serve)
    return results[-1]


def test_a_serving_mesh_is_shown_with_exit_status_0(mesh: LocalMesh) -> None:
    mesh.start()

    result = status_with("leaf-a", "leaf-b", "gateway")

    shown = shown_by(result)
    assert result.exit_code == 0
    assert shown["leaf-a"]["address"] == mesh.address("leaf-a")
    assert {process["health"] for process in shown.values()} == {"SERVING"}


def test_a_dead_process_is_shown_with_exit_status_1(mesh: LocalMesh) -> None:
    mesh.start()
    leaf = next(process for process in mesh.processes() if process.name == "leaf-b")
    os.kill(leaf.pid, signal.SIGKILL)
    os.waitid(os.P_PID, leaf.pid, os.WEXITED | os.WNOWAIT)

    result = status_with("leaf-a", "gateway")

    shown = shown_by(result)
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


def test_restarts_are_shown(mesh: LocalMesh) -> None:
    mesh.start()
    leaf = next(process for process in mesh.processes() if process.name == "leaf-b")
    os.kill(leaf.pid, signal.SIGKILL)
    gives_up_at_s = time.monotonic() + 60.0

    def is_back() -> bool:
        run = read_run(Path(".recmesh") / "run.json")
        is_again = all(process.identity != leaf.identity for process in run.processes)
        serves = all(state.stage == "SERVING" for state in mesh.states())
        return (is_again and serves) or time.monotonic() > gives_up_at_s

    mesh.wait(is_stopping=is_back)
    as_json, table = status_with("leaf-a", "leaf-b", "gateway"), run_status()

    restarts = {name: each["restarts"] for name, each in shown_by(as_json).items()}
    assert restarts == {"leaf-a": 0, "leaf-b": 1, "gateway": 0}
    assert "restarts: 1" in " ".join(table.stdout.split())
    assert as_json.exit_code == 0


@pytest.mark.usefixtures("mesh")
def test_without_a_mesh_it_says_how_to_start_one() -> None:
    result = run_status()

    assert result.exit_code == 1
    assert "meshctl up" in result.stderr
