"""The real mesh, as a person runs it: `meshctl up` over a trained bundle, in its own directory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshctl.run_file import Run, RunningProcess, read_run
from recmesh_client import Recommendation

STOP_DEADLINE_S = 60.0
WHOLE_DEADLINE_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class RunningMesh:
    """A mesh that serves."""

    directory: Path
    """Where `meshctl` is run: `.recmesh/run.json` is below it."""
    supervisor: "subprocess.Popen[str]"

    @property
    def gateway(self) -> str:
        """The `host:port` of the only gateway."""
        return self.process("gateway")[0]

    @property
    def gateways(self) -> list[str]:
        """The `host:port` of every gateway."""
        return list(self._run().gateway_addresses())

    def process(self, name: str) -> tuple[str, int]:
        """Return address and pid of one process."""
        found = self.running(name)
        return found.address, found.pid

    def running(self, name: str) -> RunningProcess:
        """Return what the run file says of one process."""
        return next(each for each in self._run().processes if each.name == name)

    def pids(self) -> list[int]:
        """Return the pids of every process of the mesh."""
        return [each.pid for each in self._run().processes]

    @contextmanager
    def unattended(self) -> Iterator[None]:
        """Stop the supervisor for the length of a block, so that what ends stays away."""
        self.supervisor.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.supervisor.send_signal(signal.SIGCONT)

    def _run(self) -> Run:
        return read_run(self.directory / ".recmesh" / "run.json")

    def meshctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside the mesh."""
        return meshctl(self.directory, *arguments)


def meshctl(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `meshctl` in `directory`."""
    return subprocess.run(
        [sys.executable, "-m", "meshctl.app", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextmanager
def running_mesh(
    directory: Path, bundles: Path, *options: str, **settings: str
) -> Iterator[RunningMesh]:
    """Run `meshctl up` until the block ends; it must then be gone in time."""
    command = [sys.executable, "-m", "meshctl.app", "up", "--bundles", str(bundles), "--port", "0"]
    supervisor = subprocess.Popen(
        [*command, *options],
        cwd=directory,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert supervisor.stdout is not None
        greeting = supervisor.stdout.readline()
        if not greeting.startswith("gateway"):
            supervisor.kill()
            raise AssertionError(f"the mesh did not start: {greeting}{supervisor.communicate()[1]}")
        yield RunningMesh(directory, supervisor)
    finally:
        if supervisor.poll() is None:
            supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate(timeout=STOP_DEADLINE_S)


def whole_answer(ask: Callable[[], Recommendation]) -> Recommendation:
    """Ask until the answer is not degraded: on a busy machine a leaf may be late now and then."""
    gives_up_at_s = time.monotonic() + WHOLE_DEADLINE_S
    while (answer := ask()).coverage.degraded:
        assert time.monotonic() < gives_up_at_s, answer.coverage
        time.sleep(POLL_S)
    return answer


def has_ended(pid: int, *, within_s: float) -> bool:
    """Poll until the process is gone or only waits to be reaped; False when it is not."""
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        if not _is_running(pid):
            return True
        time.sleep(POLL_S)
    return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
