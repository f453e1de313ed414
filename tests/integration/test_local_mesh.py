"""The supervisor with real processes that serve real health services."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshctl.child_process import ProcessSpec
from meshctl.health import health_of
from meshctl.local_mesh import LocalMesh, MeshFacts, StartInterruptedError
from meshctl.mesh_member import MeshError
from meshctl.process_identity import ProcessIdentity, identify
from meshctl.run_file import read_run
from tests.integration.stand_in_mesh import (
    SERVER,
    a_supervisor,
    eventually,
    none_alive,
    specs,
)

NAMES = ["leaf-a", "leaf-b", "gateway"]

Faults = Mapping[str, Mapping[str, str]]


@contextmanager
def a_mesh(
    state_directory: Path,
    *,
    faults: Faults | None = None,
    said: list[str] | None = None,
    start_deadline_s: float = 60.0,
    terminate_budget_s: float = 8.0,
) -> Iterator[LocalMesh]:
    lines = said if said is not None else []
    with LocalMesh(
        specs(faults or {}),
        state_directory=state_directory,
        facts=MeshFacts("bundles", "bundle"),
        say=lines.append,
        start_deadline_s=start_deadline_s,
        terminate_budget_s=terminate_budget_s,
    ) as mesh:
        yield mesh


def identities_of(state_directory: Path) -> list[ProcessIdentity]:
    """Everything that the run file names, and the child of a stand-in."""
    grandchild = int((state_directory / "grandchild").read_text())
    run = read_run(state_directory / "run.json")
    return [identify(grandchild), *(process.identity for process in run.processes)]


def test_a_started_mesh_serves_and_is_in_the_run_file(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.start()

        run = read_run(tmp_path / "run.json")
        assert sorted(process.name for process in run.processes) == sorted(NAMES)
        assert run.supervisor.pid == os.getpid()
        for process in run.processes:
            assert process.identity.is_alive()
            health = health_of(process.address, protocol="grpc", timeout_s=30)
            assert health == "SERVING"


def test_a_process_is_told_the_addresses_that_it_waits_for(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.start()

        told = f"told of {mesh.address('leaf-a')} and {mesh.address('leaf-b')}"
        assert told in (tmp_path / "logs" / "gateway.log").read_text()


def test_leaving_the_block_leaves_no_process_and_no_run_file(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.start()
        identities = [process.identity for process in mesh.processes()]

    assert none_alive(identities)
    assert not (tmp_path / "run.json").exists()


def test_a_process_that_dies_at_start_fails_the_mesh_with_its_last_words(tmp_path: Path) -> None:
    started: list[ProcessIdentity] = []
    faults = {"leaf-b": {"STAND_IN_FAULT": "dies"}}

    with (
        a_mesh(tmp_path, faults=faults) as mesh,
        pytest.raises(MeshError, match=r"(?s)leaf-b.*exit status 3.*cannot read its bundle"),
    ):
        mesh.start(show=lambda _: started.extend(one.identity for one in mesh.processes()))

    assert len(set(started)) == 2
    assert none_alive(started)
    assert not (tmp_path / "run.json").exists()


def test_a_process_that_never_serves_fails_the_mesh_in_time(tmp_path: Path) -> None:
    faults = {"leaf-a": {"STAND_IN_FAULT": "hangs"}}

    with (
        a_mesh(tmp_path, faults=faults, start_deadline_s=0.5) as mesh,
        pytest.raises(MeshError, match=r"leaf-[ab] was not serving after 0\.5 s"),
    ):
        mesh.start()


def test_a_stop_during_the_start_stops_what_has_started(tmp_path: Path) -> None:
    faults = {"leaf-a": {"STAND_IN_FAULT": "hangs"}}

    with a_mesh(tmp_path, faults=faults) as mesh:
        with pytest.raises(StartInterruptedError):
            mesh.start(is_stopping=lambda: bool(mesh.processes()))

        assert none_alive([process.identity for process in mesh.processes()])


def test_what_waits_for_a_process_starts_after_its_preparation(tmp_path: Path) -> None:
    prepared_with: list[str] = []
    store = ProcessSpec("store", SERVER, prepare=prepared_with.append)
    leaf = ProcessSpec("leaf", SERVER, {"STAND_IN_TOLD": "{store}"}, waits_for=("store",))
    at_start_of_leaf: list[list[str]] = []

    with LocalMesh(
        [leaf, store], state_directory=tmp_path, facts=MeshFacts(), say=lambda _: None
    ) as mesh:

        def note(_: object) -> None:
            if len(mesh.processes()) == 2:
                at_start_of_leaf.append(list(prepared_with))

        mesh.start(show=note)

        assert at_start_of_leaf[0] == [mesh.address("store")]


def test_a_failed_preparation_fails_the_mesh_with_its_reason(tmp_path: Path) -> None:
    def refuse(_: str) -> None:
        raise ValueError("no such table")

    store = ProcessSpec("store", SERVER, prepare=refuse)

    with (
        LocalMesh([store], state_directory=tmp_path, facts=MeshFacts(), say=lambda _: None) as mesh,
        pytest.raises(MeshError, match="store could not be prepared: no such table"),
    ):
        mesh.start()


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    faults = {"leaf-a": {"STAND_IN_FAULT": "stubborn"}}

    with a_mesh(tmp_path, faults=faults, said=said, terminate_budget_s=1.0) as mesh:
        mesh.start()
        identities = [process.identity for process in mesh.processes()]

    assert none_alive(identities)
    assert said == ["leaf-a did not stop when asked; killed"]


def test_a_second_mesh_in_the_same_directory_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    with a_mesh(tmp_path) as first, a_mesh(tmp_path) as second:
        first.start()

        with pytest.raises(MeshError, match=rf"already \(pid {os.getpid()}\)"):
            second.start()

        assert second.processes() == ()
        assert all(one.identity.is_alive() for one in read_run(tmp_path / "run.json").processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_leaves_no_process_and_exit_status_zero(
    tmp_path: Path, number: signal.Signals
) -> None:
    with a_supervisor(tmp_path) as supervisor:
        identities = identities_of(tmp_path)

        supervisor.send_signal(number)

        assert supervisor.wait(timeout=60) == 0
        assert none_alive(identities)
        assert not (tmp_path / "run.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_supervisor_leaves_no_server_and_no_obstacle(tmp_path: Path) -> None:
    with a_supervisor(tmp_path) as supervisor:
        grandchild, *servers = identities_of(tmp_path)

        supervisor.kill()

        assert eventually(lambda: none_alive(servers))
        os.kill(grandchild.pid, signal.SIGKILL)
    with a_mesh(tmp_path) as mesh:
        mesh.start()
        assert read_run(tmp_path / "run.json").supervisor.pid == os.getpid()


def test_a_terminals_ctrl_c_does_not_reach_the_servers(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.start()

        for process in mesh.processes():
            assert os.getsid(process.pid) == process.pid


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ([ProcessSpec("a", SERVER), ProcessSpec("a", SERVER)], "the same name"),
        ([ProcessSpec("a", SERVER, waits_for=("b",))], "wait for ever: a"),
    ],
)
def test_specs_that_cannot_start_are_refused(
    tmp_path: Path, wrong: list[ProcessSpec], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        LocalMesh(wrong, state_directory=tmp_path, facts=MeshFacts(), say=lambda _: None)
