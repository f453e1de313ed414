"""One member of the local mesh: its process, and the next one when that ends."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshctl.backoff import Backoff
from meshctl.child_process import ProcessSpec
from meshctl.process_life import ProcessLife
from meshctl.run_file import RunningProcess

Stage = Literal["waiting", "starting", "preparing", "SERVING", "ended", "restarting"]

_LISTEN = "RECMESH_LISTEN"


class MeshError(Exception):
    """The mesh could not be started; the message says which process and why."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How far one process has come.

    "ended": it waits for its next start; "restarting": it was started again and
    does not serve yet. `address` is empty before it serves for the first time.
    """

    name: str
    stage: Stage
    address: str = ""


class Member:
    """A spec and the process that was started from it, then the next one, and so on.

    `addresses` are those of the processes that the spec waits for. Whoever owns
    it calls `advance` until it serves and `tend` from then on, always from one
    thread: a child is killed at the end of the thread that started it.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        addresses: Mapping[str, str],
        state_directory: Path,
        *,
        start_deadline_s: float,
    ) -> None:
        self.spec = spec
        self._env = _filled_in(spec, addresses)
        self._state_directory = state_directory
        self._start_deadline_s = start_deadline_s
        self._address = ""
        self._restarts = 0
        self._backoff = Backoff()
        self._ended_at_s = 0.0
        self._due_at_s: float | None = None
        self._life = self._live(restart=0)

    def advance(self) -> None:
        """Take the next step towards serving if it is due; raises MeshError."""
        self._life.advance()
        if self._life.fault:
            raise MeshError(f"{self.spec.name} {self._life.fault}\n{self._life.log_excerpt()}")
        self._address = self._life.address

    def tend(self) -> str:
        """Take the next step of its life or towards the next one, without waiting.

        Returns a line when there is something to say, else "".
        """
        if self._due_at_s is not None:
            return self._start_again() if self._is_due(self._due_at_s) else ""
        was_serving = self._life.stage == "SERVING"
        self._life.advance()
        if self._life.fault and not self._life.is_running():
            return self._obituary(is_first_end=was_serving)
        if self._life.stage == "SERVING" and not was_serving:
            return self._welcome()
        return ""

    def is_running(self) -> bool:
        """Tell whether it has a process."""
        return self._life.is_running()

    def terminate(self) -> None:
        """Ask the process to end."""
        self._life.terminate()

    def kill(self) -> None:
        """Kill the process and everything it started."""
        self._life.kill()

    def state(self) -> ProcessState:
        """Return how far it has come."""
        return ProcessState(self.spec.name, self._stage(), self._address)

    def running(self) -> RunningProcess:
        """Return it as the run file says it; between two lives the one that ended."""
        identity = self._life.identity
        return RunningProcess(
            self.spec.name,
            self._address,
            identity.pid,
            identity.started,
            self.spec.protocol,
            self._restarts,
        )

    def _stage(self) -> Stage:
        if self._due_at_s is not None:
            return "ended"
        if self._restarts and self._life.stage != "SERVING":
            return "restarting"
        return self._life.stage

    def _live(self, *, restart: int) -> ProcessLife:
        # Others have the address of the first life in their settings.
        env = {**self._env, _LISTEN: self._address} if self._address else self._env
        return ProcessLife(
            self.spec,
            env,
            self._state_directory,
            start_deadline_s=self._start_deadline_s,
            restart=restart,
        )

    def _is_due(self, due_at_s: float) -> bool:
        # The steps of an earlier life would reach the new process, at the same address.
        return time.monotonic() >= due_at_s and not self._life.is_being_prepared()

    def _start_again(self) -> str:
        try:
            self._life = self._live(restart=self._restarts + 1)
        except OSError as exc:  # no memory, no process, no room for the log: all may pass
            pause = self._plan(was_asked_for=False, served_s=0.0)
            return f"{self.spec.name} could not be started: {exc}; {pause}"
        self._restarts += 1
        self._due_at_s = None
        return ""

    def _obituary(self, *, is_first_end: bool) -> str:
        if is_first_end:
            self._ended_at_s = time.monotonic()
        who = f"{self.spec.name} (pid {self._life.identity.pid})"
        pause = self._plan(was_asked_for=self._life.has_ended_well(), served_s=self._life.served_s)
        return f"{who} {self._life.fault}; {pause}; log: {self._life.log_path}"

    def _plan(self, *, was_asked_for: bool, served_s: float) -> str:
        pause_s = self._backoff.pause_s(was_asked_for=was_asked_for, served_s=served_s)
        self._due_at_s = time.monotonic() + pause_s
        return f"restarting in {pause_s:g} s" if pause_s else "restarting at once"

    def _welcome(self) -> str:
        took_s = time.monotonic() - self._ended_at_s
        return f"{self.spec.name} (pid {self._life.identity.pid}) serves again after {took_s:.1f} s"


def _filled_in(spec: ProcessSpec, addresses: Mapping[str, str]) -> dict[str, str]:
    return {key: _with_addresses(text, addresses) for key, text in spec.env.items()}


def _with_addresses(text: str, addresses: Mapping[str, str]) -> str:
    for name, address in addresses.items():
        text = text.replace(f"{{{name}}}", address)
    return text
