"""One started process of the local mesh on its way to serving and to its end."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshctl.child_process import ChildProcess, ProcessSpec, describe_exit
from meshctl.health import health_of
from meshctl.run_file import RunningProcess

Stage = Literal["waiting", "starting", "preparing", "SERVING", "ended"]

_HEALTH_TIMEOUT_S = 0.5


class MeshError(Exception):
    """The mesh could not be started; the message says which process and why."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How far one process has come; `address` is empty before it serves."""

    name: str
    stage: Stage
    address: str = ""


class Member:
    """A spec and the process that was started from it.

    `addresses` are those of the processes that the spec waits for. Whoever owns
    it calls `advance` until it serves.
    """

    def __init__(
        self, spec: ProcessSpec, addresses: Mapping[str, str], state_directory: Path
    ) -> None:
        self.spec = spec
        self.stage: Stage = "starting"
        self.address = ""
        self._started_s = time.monotonic()
        self._child = ChildProcess(spec, _filled_in(spec, addresses), state_directory)
        self._preparation: _Preparation | None = None

    def advance(self, *, start_deadline_s: float) -> None:
        """Take the next step towards serving if it is due; raises MeshError."""
        self._require_running()
        if self.stage == "starting":
            self._try_address()
            self._require_in_time(start_deadline_s)
        elif self.stage == "preparing":
            self._await_preparation()

    def notice_end(self) -> bool:
        """Return True the first time that its end is seen."""
        if self.stage == "ended" or self.is_running():
            return False
        self.stage = "ended"
        return True

    def is_running(self) -> bool:
        """Tell whether the process has not ended yet."""
        return self._child.poll() is None

    def terminate(self) -> None:
        """Ask the process to end."""
        self._child.terminate()

    def kill(self) -> None:
        """Kill the process and everything it started."""
        self._child.kill_group()

    def state(self) -> ProcessState:
        """Return how far it has come."""
        return ProcessState(self.spec.name, self.stage, self.address)

    def running(self) -> RunningProcess:
        """Return it as the run file says it, ended or not."""
        identity = self._child.identity
        return RunningProcess(
            self.spec.name, self.address, identity.pid, identity.started, self.spec.protocol
        )

    def obituary(self) -> str:
        """Say in one line how it ended and what follows."""
        status = describe_exit(self._child.poll() or 0)
        consequence = "stopping" if self.spec.is_essential else "the mesh goes on without it"
        name, pid = self.spec.name, self._child.identity.pid
        return f"{name} (pid {pid}) ended: {status}; {consequence}; log: {self._child.log_path}"

    def _try_address(self) -> None:
        address = self._child.read_address()
        health = health_of(address, protocol=self.spec.protocol, timeout_s=_HEALTH_TIMEOUT_S)
        if health != "SERVING":
            return
        self.address = address
        self.stage = "preparing" if self.spec.prepare else "SERVING"
        if self.spec.prepare:
            self._preparation = _Preparation(self.spec.prepare, address)

    def _await_preparation(self) -> None:
        if self._preparation is None or self._preparation.has_ended(self.spec.name):
            self.stage = "SERVING"

    def _require_running(self) -> None:
        status = self._child.poll()
        if status is not None:
            how = describe_exit(status)
            raise MeshError(
                f"{self.spec.name} ended while the mesh was starting: {how}\n{self._log_excerpt()}"
            )

    def _require_in_time(self, start_deadline_s: float) -> None:
        if self.stage == "starting" and time.monotonic() - self._started_s > start_deadline_s:
            raise MeshError(
                f"{self.spec.name} was not serving after {start_deadline_s:g} s\n"
                f"{self._log_excerpt()}"
            )

    def _log_excerpt(self) -> str:
        tail = self._child.log_tail() or "(the log is empty)"
        return f"the end of {self._child.log_path}:\n{tail}"


class _Preparation:
    """A prepare step in a thread of its own, so that deaths and Ctrl-C are seen meanwhile."""

    def __init__(self, prepare: Callable[[str], None], address: str) -> None:
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(prepare, address), daemon=True)
        self._thread.start()

    def has_ended(self, name: str) -> bool:
        """Tell whether it is done; raises MeshError when it failed."""
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise MeshError(f"{name} could not be prepared: {self._failure}") from self._failure
        return True

    def _run(self, prepare: Callable[[str], None], address: str) -> None:
        try:
            prepare(address)
        except Exception as exc:  # noqa: BLE001 - raised again in the starting thread
            self._failure = exc


def _filled_in(spec: ProcessSpec, addresses: Mapping[str, str]) -> dict[str, str]:
    return {key: _with_addresses(text, addresses) for key, text in spec.env.items()}


def _with_addresses(text: str, addresses: Mapping[str, str]) -> str:
    for name, address in addresses.items():
        text = text.replace(f"{{{name}}}", address)
    return text
