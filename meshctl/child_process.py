"""One process of the local mesh: started, watched and ended with everything it started."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from meshctl.process_identity import ProcessIdentity, identify

Protocol = Literal["grpc", "http"]

_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How one process of the mesh is started.

    `argv` is a Python module and its arguments. `env` is added to our own
    environment; `{name}` in a value becomes the address of that process, which
    must be among `waits_for`: those that must serve before this one starts; one
    that is started again waits for nobody. `prepare` is called with the address
    whenever the process has come to serve, in a thread of its own, before
    anything that waits for it starts. It must end soon when the process does.
    `niceness` is the kernel's: a nicer process yields its core to the others.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()
    protocol: Protocol = "grpc"
    prepare: Callable[[str], None] | None = None
    niceness: int = 0


class ChildProcess:
    """A running process in a session of its own, so that a terminal's Ctrl-C passes it by.

    `restart` says which restart it is, 0 for the first start; a later process
    adds to the log of the earlier ones.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        env: Mapping[str, str],
        state_directory: Path,
        *,
        restart: int = 0,
    ) -> None:
        self.log_path = state_directory / "logs" / f"{spec.name}.log"
        self._address_path = state_directory / "addresses" / spec.name
        self._prepare_paths()
        self._process = self._start(spec, env, restart)
        self.identity = _identify_child(self._process.pid)

    def read_address(self) -> str:
        """Return the `host:port` that the process serves at, empty until it does."""
        try:
            return self._address_path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def poll(self) -> int | None:
        """Return None while it runs, then its exit status (negative: minus the signal).

        What the process started and left behind is killed when its end is seen.
        """
        if self._process.returncode is None and self._has_ended():
            _kill_group(self._process.pid)
            self._process.wait()
        return self._process.returncode

    def terminate(self) -> None:
        """Ask the process to end; what it started is its own to end."""
        if self.poll() is None:
            self._process.terminate()

    def kill_group(self) -> None:
        """Kill the process and everything it started, unless its end was seen already."""
        # Until wait() the pid cannot be given to another process or group.
        if self._process.returncode is None:
            _kill_group(self._process.pid)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        with self.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def _prepare_paths(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._address_path.parent.mkdir(parents=True, exist_ok=True)
        self._address_path.unlink(missing_ok=True)

    def _start(
        self, spec: ProcessSpec, env: Mapping[str, str], restart: int
    ) -> subprocess.Popen[bytes]:
        tie = ("meshctl.child", str(os.getpid()), str(spec.niceness))
        command = [sys.executable, "-P", "-m", *tie, *spec.argv]
        with self.log_path.open("ab" if restart else "wb") as log:
            if restart:
                log.write(f"--- {spec.name}, restart {restart} ---\n".encode())
                log.flush()
            return subprocess.Popen(  # noqa: S603 - our own modules, no shell
                command,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    **env,
                    "RECMESH_ADDRESS_FILE": str(self._address_path.resolve()),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13: reaps at once
            return self._process.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None


def describe_exit(status: int) -> str:
    """Say an exit status in words: "exit status 3", "SIGSEGV"."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _identify_child(pid: int) -> ProcessIdentity:
    identity = identify(pid)
    if identity.started or not Path("/proc/self/stat").exists():
        return identity
    # It ended at once. Without a start time whoever gets its pid next would pass for it.
    return ProcessIdentity(pid, "ended at once")


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:  # macOS, when only zombies are left in the group
        return
