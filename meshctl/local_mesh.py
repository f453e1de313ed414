"""Starts the processes of a local mesh, starts those again that end, and stops all.

How this works: one thread, the caller's, does everything by polling. A process
starts as soon as those that it waits for serve, so all that can start together
do. It serves when it has written its address, its health service says SERVING
and its `prepare` step, if any, has ended. From then on a process that ends is
started again, at the address that it had. Stopping goes the other way round,
in waves: a process is asked to end when nothing that waits for it runs.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from meshctl.child_process import ProcessSpec
from meshctl.mesh_member import Member, MeshError, ProcessState
from meshctl.process_identity import identify
from meshctl.process_order import require_startable, stop_waves
from meshctl.run_file import Run, RunFile, RunFileError, RunningProcess
from meshctl.stop_signals import ignored_stop_signals

START_DEADLINE_S = 90.0
"""From a process's start to its SERVING; a first start compiles kernels on busy cores."""

TERMINATE_BUDGET_S = 8.0
"""From the first SIGTERM until what still runs gets SIGKILL; with it a stop takes under 10 s."""

_KILL_BUDGET_S = 1.5
_WAVE_SHARE = 0.5  # of the time that is left: 4 s for the gateway, 2 s for leaves, then the rest
_POLL_S = 0.05
_WATCH_S = 0.1


class StartInterruptedError(MeshError):
    """A stop was asked for before everything served."""


@dataclass(frozen=True, slots=True)
class MeshFacts:
    """What the run file says of a mesh beyond its processes."""

    bundles: str = ""
    clock: str = "wall"
    control_file: str = ""


class LocalMesh:
    """The processes of one mesh; leaving its block stops them all.

    `specs` are in any order. `say` is called with one line for everything that
    a person should know while the mesh runs.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        state_directory: Path,
        facts: MeshFacts,
        say: Callable[[str], None],
        start_deadline_s: float = START_DEADLINE_S,
        terminate_budget_s: float = TERMINATE_BUDGET_S,
    ) -> None:
        require_startable(specs)
        self._specs = tuple(specs)
        self._members: dict[str, Member] = {}
        self._start_deadline_s = start_deadline_s
        self._terminate_budget_s = terminate_budget_s
        self._state_directory = state_directory
        self._run_file = RunFile(state_directory)
        self._facts = facts
        self._say = say
        self._started_at = ""
        self._thread_id = 0
        self._published: tuple[RunningProcess, ...] = ()
        self._has_run_file_fault = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(
        self,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        show: Callable[[Sequence[ProcessState]], None] = lambda _: None,
    ) -> None:
        """Start everything and return when all of it serves.

        `show` is given the state of all processes some 20 times a second.
        Raises MeshError when another mesh runs in this directory, when a
        process ends or is late (with the tail of its log), and
        StartInterruptedError when `is_stopping` says so. Nothing runs after an error.
        Call it from a thread that lives as long as the mesh.
        """
        self._thread_id = threading.get_ident()
        try:
            self._claim()
            while not self._is_serving():
                _require_wanted(is_stopping)
                self._advance()
                show(self.states())
                time.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise

    def wait(self, *, is_stopping: Callable[[], bool]) -> None:
        """Watch the mesh until `is_stopping`, starting again whatever ends, and saying so.

        Call it from the thread that called `start`.
        """
        if threading.get_ident() != self._thread_id:
            # A process started here would be killed at the end of this thread.
            raise RuntimeError("start() and wait() must be called from the same thread")
        while not is_stopping():
            self._tend()
            time.sleep(_WATCH_S)

    def stop(self) -> None:
        """Stop everything within 10 s (by default), leave no process, remove the run file.

        Signals do not interrupt it. Stopping twice does nothing the second time.
        """
        with ignored_stop_signals():
            self._terminate()
            self._kill()
            self._run_file.release()

    def states(self) -> tuple[ProcessState, ...]:
        """Return how far each process has come, in the order of the specs."""
        return tuple(self._state_of(spec.name) for spec in self._specs)

    def address(self, name: str) -> str:
        """Return the `host:port` of a process, empty before it serves."""
        return self._state_of(name).address

    def processes(self) -> tuple[RunningProcess, ...]:
        """Return the processes that were started, ended ones too."""
        return tuple(member.running() for member in self._members.values())

    def _state_of(self, name: str) -> ProcessState:
        member = self._members.get(name)
        return member.state() if member else ProcessState(name, "waiting")

    def _claim(self) -> None:
        try:
            self._run_file.claim()
        except RunFileError as exc:
            raise MeshError(str(exc)) from exc
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_run_file()

    def _is_serving(self) -> bool:
        return all(state.stage == "SERVING" for state in self.states())

    def _advance(self) -> None:
        before = self.states()
        self._start_due()
        for member in self._members.values():
            member.advance()
        if self.states() != before:
            self._write_run_file()

    def _start_due(self) -> None:
        serving = {one.name: one.address for one in self.states() if one.stage == "SERVING"}
        for spec in self._specs:
            if spec.name not in self._members and serving.keys() >= set(spec.waits_for):
                addresses = {name: serving[name] for name in spec.waits_for}
                self._members[spec.name] = Member(
                    spec,
                    addresses,
                    self._state_directory,
                    start_deadline_s=self._start_deadline_s,
                )

    def _tend(self) -> None:
        lines = [line for member in self._members.values() if (line := member.tend())]
        # First the file: who reads of a restart looks there for the new pid.
        if self.processes() != self._published:
            self._try_write_run_file()
        for line in lines:
            self._say(line)

    def _try_write_run_file(self) -> None:
        """Write it, or say once that it cannot be: a full disk is no reason to stop serving."""
        try:
            self._write_run_file()
        except OSError as exc:
            if not self._has_run_file_fault:
                self._say(f"{self._run_file.path} cannot be written and is out of date: {exc}")
            self._has_run_file_fault = True
        else:
            self._has_run_file_fault = False

    def _write_run_file(self) -> None:
        processes = self.processes()
        self._run_file.write(
            Run(
                started_at=self._started_at,
                bundles=self._facts.bundles,
                clock=self._facts.clock,
                control_file=self._facts.control_file,
                supervisor=identify(os.getpid()),
                processes=processes,
            )
        )
        self._published = processes

    def _terminate(self) -> None:
        deadline_s = time.monotonic() + self._terminate_budget_s
        for wave in stop_waves([member.spec for member in self._members.values()]):
            members = [self._members[name] for name in wave]
            for member in members:
                member.terminate()
            _await_ends(members, (deadline_s - time.monotonic()) * _WAVE_SHARE)
        _await_ends(self._members.values(), deadline_s - time.monotonic())

    def _kill(self) -> None:
        late = [member for member in self._members.values() if member.is_running()]
        for member in late:
            self._say(f"{member.spec.name} did not stop when asked; killed")
            member.kill()
        _await_ends(late, _KILL_BUDGET_S)


def _require_wanted(is_stopping: Callable[[], bool]) -> None:
    if is_stopping():
        raise StartInterruptedError("stopped before everything was serving")


def _await_ends(members: Iterable[Member], limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    left = [member for member in members if member.is_running()]
    while left and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        left = [member for member in left if member.is_running()]
