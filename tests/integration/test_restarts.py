"""What the supervisor does with processes that end while the mesh serves."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshctl.child_process import ProcessSpec
from meshctl.health import health_of
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.process_identity import ProcessIdentity
from meshctl.process_life import ProcessLife
from meshctl.run_file import Run, RunningProcess, read_run
from tests.integration.stand_in_mesh import SERVER, a_supervisor, eventually, none_alive, specs

ENOUGH_S = 30.0


class Watched:
    """A mesh that serves, and what it said; `identities` are all processes it ever had."""

    def __init__(self, mesh: LocalMesh, said: list[str], state_directory: Path) -> None:
        self.mesh = mesh
        self.said = said
        self.state_directory = state_directory
        self.identities: set[ProcessIdentity] = set()

    def until(self, claim: Callable[[], bool]) -> None:
        """Have the mesh looked after until the claim holds."""
        deadline_s = time.monotonic() + ENOUGH_S

        def is_enough() -> bool:
            self.identities |= {process.identity for process in self.mesh.processes()}
            return claim() or time.monotonic() > deadline_s

        self.mesh.wait(is_stopping=is_enough)
        assert claim(), self.said

    def has_said(self, words: str, *, times: int = 1) -> bool:
        return sum(words in line for line in self.said) >= times

    def stage(self, name: str) -> str:
        return next(state.stage for state in self.mesh.states() if state.name == name)

    def process(self, name: str) -> RunningProcess:
        """A process as the run file has it."""
        return next(process for process in self.run().processes if process.name == name)

    def run(self) -> Run:
        return read_run(self.state_directory / "run.json")

    def log(self, name: str) -> str:
        return (self.state_directory / "logs" / f"{name}.log").read_text()


@contextmanager
def serving(state_directory: Path, *of: ProcessSpec) -> Iterator[Watched]:
    said: list[str] = []
    with LocalMesh(of, state_directory=state_directory, facts=MeshFacts(), say=said.append) as mesh:
        mesh.start()
        yield Watched(mesh, said, state_directory)


def leaf(
    state_directory: Path,
    name: str = "leaf",
    *,
    fault: str = "",
    lives: str = "2",
    prepare: Callable[[str], None] | None = None,
) -> ProcessSpec:
    """A stand-in with a fault in some of its lives."""
    env: Mapping[str, str] = {
        "STAND_IN_FAULT": fault,
        "STAND_IN_FAULTY_LIVES": lives,
        "STAND_IN_LIVES_FILE": str(state_directory / f"lives-of-{name}"),
    }
    return ProcessSpec(name, SERVER, env, prepare=prepare)


@pytest.mark.parametrize("name", ["leaf-a", "gateway"])
def test_what_dies_is_started_again_at_its_address_and_said(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, *specs({})) as watched:
        before = watched.process(name)
        os.kill(before.pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        after = watched.process(name)
        assert (after.address, after.restarts) == (before.address, 1)
        assert after.pid != before.pid
        assert after.identity.is_alive()
        assert watched.stage(name) == "SERVING"
        assert health_of(before.address, protocol="grpc", timeout_s=ENOUGH_S) == "SERVING"
        assert watched.said[0].startswith(
            f"{name} (pid {before.pid}) ended: SIGKILL; restarting in 0.5 s; log: "
        )
        assert watched.said[1].startswith(f"{name} (pid {after.pid}) serves again after ")
        assert len(watched.said) == 2


def test_a_process_that_was_asked_to_end_is_started_again_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path)) as watched:
        os.kill(watched.process("leaf").pid, signal.SIGTERM)
        watched.until(lambda: watched.has_said("serves again"))

        assert "ended: exit status 0; restarting at once; log: " in watched.said[0]


def test_a_process_that_goes_on_dying_is_tried_again_and_again(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path, fault="dies", lives="2,3")) as watched:
        died_at_s = time.monotonic()
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        pauses = [line.partition("; ")[2].partition(";")[0] for line in watched.said[:3]]
        assert pauses == ["restarting in 0.5 s", "restarting in 1 s", "restarting in 2 s"]
        assert "ended: exit status 3" in watched.said[1]
        assert time.monotonic() - died_at_s >= 0.5 + 1 + 2
        assert watched.process("leaf").restarts == 3
        assert len(watched.said) == 4


def test_the_log_keeps_the_words_of_every_life(tmp_path: Path) -> None:
    with serving(tmp_path, *specs({})) as watched:
        os.kill(watched.process("gateway").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        addresses = [watched.mesh.address(name) for name in ("leaf-a", "leaf-b")]
        first_words = f"serving; told of {' and '.join(addresses)}\n"
        assert watched.log("gateway") == f"{first_words}--- gateway, restart 1 ---\n{first_words}"


def test_between_two_lives_the_run_file_names_the_one_that_ended(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path)) as watched:
        before = watched.process("leaf")
        os.kill(before.pid, signal.SIGKILL)
        watched.until(lambda: watched.stage("leaf") == "ended")

        assert watched.process("leaf") == before
        assert not before.identity.is_alive()


def test_the_run_file_has_a_new_process_before_it_serves(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path, fault="hangs")) as watched:
        before = watched.process("leaf")
        os.kill(before.pid, signal.SIGKILL)
        watched.until(lambda: watched.stage("leaf") == "restarting")

        after = watched.process("leaf")
        assert after.identity.is_alive()
        assert (after.address, after.restarts) == (before.address, 1)


def test_others_are_looked_after_while_one_does_not_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path, "a", fault="hangs"), leaf(tmp_path, "b")) as watched:
        os.kill(watched.process("a").pid, signal.SIGKILL)
        watched.until(lambda: watched.stage("a") == "restarting")
        os.kill(watched.process("b").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        assert (watched.stage("a"), watched.stage("b")) == ("restarting", "SERVING")


@pytest.mark.parametrize("stage", ["ended", "restarting"])
def test_a_stop_during_a_restart_leaves_no_process(tmp_path: Path, stage: str) -> None:
    with serving(tmp_path, leaf(tmp_path, fault="hangs"), leaf(tmp_path, "other")) as watched:
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: watched.stage("leaf") == stage)

    assert len(watched.identities) == (3 if stage == "restarting" else 2)
    assert none_alive(watched.identities)
    assert not (tmp_path / "run.json").exists()


def test_a_taken_port_is_tried_until_it_is_free(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path)) as watched:
        before = watched.process("leaf")
        host, _, port = before.address.rpartition(":")
        os.kill(before.pid, signal.SIGKILL)
        os.waitid(os.P_PID, before.pid, os.WEXITED | os.WNOWAIT)
        with socket.create_server((host, int(port))):
            watched.until(lambda: watched.has_said("ended: exit status 1; restarting in 1 s"))
        watched.until(lambda: watched.has_said("serves again"))

        assert watched.process("leaf").address == before.address


def test_a_process_that_is_started_again_is_prepared_again(tmp_path: Path) -> None:
    prepared: list[str] = []
    with serving(tmp_path, leaf(tmp_path, prepare=prepared.append)) as watched:
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        assert prepared == [watched.mesh.address("leaf")] * 2


def test_a_failed_preparation_is_said_and_starts_the_process_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def prepare(address: str) -> None:
        calls.append(address)
        if len(calls) == 2:
            raise ValueError("no such table")

    with serving(tmp_path, leaf(tmp_path, prepare=prepare)) as watched:
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        assert "could not be prepared: no such table; restarting in 1 s" in watched.said[1]
        assert len(calls) == 3
        assert none_alive(watched.identities - {watched.process("leaf").identity})


def test_a_preparation_ends_before_the_next_life_begins(tmp_path: Path) -> None:
    """It would do half of its work in the next process, at the same address."""
    calls: list[str] = []
    may_end = threading.Event()

    def prepare(address: str) -> None:
        calls.append(address)
        if len(calls) == 2:
            may_end.wait(ENOUGH_S)

    with serving(tmp_path, leaf(tmp_path, prepare=prepare)) as watched:
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: len(calls) == 2)
        os.kill(watched.process("leaf").pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("restarting in 1 s"))
        due_at_s = time.monotonic() + 1.0
        watched.until(lambda: time.monotonic() > due_at_s + 0.5)

        assert watched.stage("leaf") == "ended"
        may_end.set()
        watched.until(lambda: watched.has_said("serves again"))
        assert len(calls) == 3


def test_a_life_that_is_late_is_killed(tmp_path: Path) -> None:
    spec = ProcessSpec("leaf", SERVER)
    env = {"STAND_IN_FAULT": "hangs"}
    life = ProcessLife(spec, env, tmp_path, start_deadline_s=0.2)

    def advanced() -> bool:
        life.advance()
        return bool(life.fault)

    assert eventually(advanced)
    assert life.fault == "was not serving after 0.2 s"
    assert eventually(lambda: not life.is_running())


def test_a_run_file_that_cannot_be_written_does_not_end_the_mesh(tmp_path: Path) -> None:
    with serving(tmp_path, leaf(tmp_path)) as watched:
        pid = watched.process("leaf").pid
        (tmp_path / "run.json").unlink()
        (tmp_path / "run.json").mkdir()
        os.kill(pid, signal.SIGKILL)
        watched.until(lambda: watched.has_said("serves again"))

        assert sum("run.json cannot be written" in line for line in watched.said) == 1
        (tmp_path / "run.json").rmdir()
        watched.until((tmp_path / "run.json").exists)
        assert watched.process("leaf").restarts == 1


def test_a_mesh_is_looked_after_by_the_thread_that_started_it(tmp_path: Path) -> None:
    refusals: list[str] = []

    def wait(mesh: LocalMesh) -> None:
        try:
            mesh.wait(is_stopping=lambda: True)
        except RuntimeError as exc:
            refusals.append(str(exc))

    with serving(tmp_path, leaf(tmp_path)) as watched:
        thread = threading.Thread(target=wait, args=(watched.mesh,))
        thread.start()
        thread.join()

    assert refusals == ["start() and wait() must be called from the same thread"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_supervisor_leaves_no_process_that_it_restarted(tmp_path: Path) -> None:
    with a_supervisor(tmp_path) as supervisor:

        def leaf_b() -> RunningProcess:
            run = read_run(tmp_path / "run.json")
            return next(process for process in run.processes if process.name == "leaf-b")

        def serves_again() -> bool:
            health = health_of(leaf_b().address, protocol="grpc", timeout_s=ENOUGH_S)
            return leaf_b().restarts == 1 and health == "SERVING"

        os.kill(leaf_b().pid, signal.SIGKILL)
        assert eventually(serves_again)
        restarted = leaf_b().identity

        supervisor.kill()

        assert eventually(lambda: not restarted.is_alive())
        os.kill(int((tmp_path / "grandchild").read_text()), signal.SIGKILL)
