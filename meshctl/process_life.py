"""One life of a process of the local mesh: from its start over its serving to its end."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from meshctl.child_process import ChildProcess, ProcessSpec, describe_exit
from meshctl.health import health_of
from meshctl.process_identity import ProcessIdentity

LifeStage = Literal["starting", "preparing", "SERVING"]

_HEALTH_TIMEOUT_S = 0.5


class ProcessLife:
    """A process that was started and is watched by calling `advance`.

    `fault` is empty while all is well and then says, to be read after the
    process's name, why it does not serve: that it ended, or why it is being
    killed. A late process and one whose preparation failed are killed.
    `served_s` is for how long it served, 0 before its end.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        env: Mapping[str, str],
        state_directory: Path,
        *,
        start_deadline_s: float,
        restart: int = 0,
    ) -> None:
        self.stage: LifeStage = "starting"
        self.address = ""
        self.fault = ""
        self._spec = spec
        self._start_deadline_s = start_deadline_s
        self._started_s = time.monotonic()
        self._serves_since_s: float | None = None
        self.served_s = 0.0
        self._preparation: _Preparation | None = None
        self._child = ChildProcess(spec, env, state_directory, restart=restart)

    def advance(self) -> None:
        """Take the next step towards serving if it is due, and notice the end."""
        if self.fault:
            return
        status = self._child.poll()
        if status is not None:
            self._note_end(status)
        elif self.stage == "starting":
            self._try_address()
        elif self.stage == "preparing":
            self._try_preparation()

    def is_running(self) -> bool:
        """Tell whether the process has not ended yet."""
        return self._child.poll() is None

    def is_being_prepared(self) -> bool:
        """Tell whether its `prepare` step runs, as it may beyond the end of the process."""
        return self._preparation is not None and self._preparation.is_running()

    def has_ended_well(self) -> bool:
        """Tell whether it ended with status 0, as it does when it is asked to."""
        return self._child.poll() == 0

    def terminate(self) -> None:
        """Ask the process to end."""
        self._child.terminate()

    def kill(self) -> None:
        """Kill the process and everything it started."""
        self._child.kill_group()

    @property
    def identity(self) -> ProcessIdentity:
        """The process itself, told from a later one with the same pid."""
        return self._child.identity

    @property
    def log_path(self) -> Path:
        """The file that receives what the process prints."""
        return self._child.log_path

    def log_excerpt(self) -> str:
        """Return the last lines of its log, with the log's name."""
        tail = self._child.log_tail() or "(the log is empty)"
        return f"the end of {self.log_path}:\n{tail}"

    def _try_address(self) -> None:
        address = self._child.read_address()
        health = health_of(address, protocol=self._spec.protocol, timeout_s=_HEALTH_TIMEOUT_S)
        if health == "SERVING":
            self.address = address
            self._prepare_or_serve()
        elif time.monotonic() - self._started_s > self._start_deadline_s:
            self._fail(f"was not serving after {self._start_deadline_s:g} s")

    def _prepare_or_serve(self) -> None:
        if self._spec.prepare is None:
            self._serve()
            return
        self.stage = "preparing"
        self._preparation = _Preparation(self._spec.prepare, self.address)

    def _try_preparation(self) -> None:
        if self._preparation is None or self._preparation.is_running():
            return
        if self._preparation.failure is None:
            self._serve()
        else:
            self._fail(f"could not be prepared: {self._preparation.failure}")

    def _serve(self) -> None:
        self.stage = "SERVING"
        self._serves_since_s = time.monotonic()

    def _note_end(self, status: int) -> None:
        self.fault = f"ended: {describe_exit(status)}"
        if self._serves_since_s is not None:
            self.served_s = time.monotonic() - self._serves_since_s

    def _fail(self, fault: str) -> None:
        self.fault = fault
        self.kill()


class _Preparation:
    """A prepare step in a thread of its own, so that deaths and Ctrl-C are seen meanwhile."""

    def __init__(self, prepare: Callable[[str], None], address: str) -> None:
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(prepare, address), daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        """Tell whether it has not ended; `failure` may be read when it has."""
        return self._thread.is_alive()

    def _run(self, prepare: Callable[[str], None], address: str) -> None:
        try:
            prepare(address)
        except Exception as exc:  # noqa: BLE001 - said by the watching thread
            self.failure = exc
