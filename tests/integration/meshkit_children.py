"""Real server processes for tests of meshkit, none of which outlives its test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "tests.integration.meshkit_echo"
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Child:
    """One server process, its address file and what it wrote to standard error."""

    kind: str
    process: subprocess.Popen[bytes]
    address_file: Path
    errors: Path

    @property
    def address(self) -> str:
        return self.address_file.read_text()

    def wait_until_serving(self) -> None:
        wait_until(lambda: self.address_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors.read_text()

    def exit_status(self) -> int:
        """Wait for the end; on a process that hangs, fail with the stack of each thread."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(DEADLINE_S)
            raise AssertionError(f"{self.kind} hangs: {self.errors.read_text()}") from None


@contextmanager
def child(directory: Path, kind: str, name: str = "a", **environment: str) -> Iterator[Child]:
    """Start `meshkit_echo`; kill it at the end if it still runs."""
    address_file = directory / f"{name}.address"
    errors = directory / f"{name}.errors"
    settings = {"RECMESH_ADDRESS_FILE": str(address_file), "PYTHONFAULTHANDLER": "1"}
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, kind, name],
            cwd=ROOT,
            env={**os.environ, **settings, **environment},
            stderr=stderr,
        )
    try:
        yield Child(kind, process, address_file, errors)
    finally:
        process.kill()
        process.wait()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Poll until `is_so`; fail after `DEADLINE_S`."""
    expires_at_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < expires_at_s, "waited in vain"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
