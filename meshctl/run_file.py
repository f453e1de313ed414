"""`.recmesh/run.json`: what the local mesh of a directory consists of, while it runs."""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from meshctl.json_file import read_json_object, write_json
from meshctl.process_identity import ProcessIdentity

STATE_DIRECTORY = Path(".recmesh")
GATEWAY = "gateway"


class RunFileError(Exception):
    """The run file cannot be read, or says that a mesh runs already."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of a mesh that was started.

    `address` is `host:port`, empty until the process serves for the first time;
    `protocol` is "grpc" or "http"; `started` is `ProcessIdentity.started`;
    `restarts` is how often it was started again.
    """

    name: str
    address: str
    pid: int
    started: str
    protocol: str
    restarts: int = 0

    @property
    def identity(self) -> ProcessIdentity:
        """The process itself, told from a later one with the same pid."""
        return ProcessIdentity(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a local mesh; `started_at` is UTC in ISO 8601."""

    started_at: str
    bundles: str
    clock: str
    control_file: str
    supervisor: ProcessIdentity
    processes: tuple[RunningProcess, ...] = ()

    def gateway_addresses(self) -> tuple[str, ...]:
        """Return where its gateways serve, and those that are just being started again."""
        is_tended = self.supervisor.is_alive()
        return tuple(
            process.address
            for process in self.processes
            if is_gateway(process.name)
            and process.address
            and (is_tended or process.identity.is_alive())
        )


def is_gateway(name: str) -> bool:
    """Tell whether a process of the mesh is a gateway: "gateway", or one of several."""
    return name == GATEWAY or name.startswith(f"{GATEWAY}-")


class RunFile:
    """The run file of one state directory, and the right to write it.

    The right is a kernel lock on a file beside it: it ends with its holder,
    however that ends, and no pid has to be believed.
    """

    def __init__(self, state_directory: Path) -> None:
        self.path = state_directory / "run.json"
        self._lock_path = state_directory / "run.lock"
        self._lock: int | None = None

    def claim(self) -> None:
        """Take the right to run a mesh here; raises RunFileError naming who has it."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(lock)
            raise RunFileError(self._refusal()) from exc
        self._lock = lock

    def write(self, run: Run) -> None:
        """Replace the file; the right must have been claimed."""
        if self._lock is None:
            raise RuntimeError("claim() comes before write()")
        write_json(self.path, asdict(run))

    def release(self) -> None:
        """Remove the file and give up the right; does nothing without it."""
        if self._lock is None:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def _refusal(self) -> str:
        try:
            pid = f"pid {read_run(self.path).supervisor.pid}"
        except (FileNotFoundError, RunFileError):
            pid = "just starting or stopping"
        directory = self.path.parent.resolve().parent
        return (
            f"a mesh runs in {directory} already ({pid}); stop it first, or use another directory"
        )


def read_run(path: Path) -> Run:
    """Return the run that `path` tells of; its processes may have ended since.

    Raises FileNotFoundError without the file, and RunFileError naming the file
    and the field when it is not one of ours.
    """
    try:
        return _run_from(read_json_object(path))
    except ValueError as exc:
        raise RunFileError(str(exc)) from exc
    except (KeyError, TypeError) as exc:
        raise RunFileError(f"{path} is not a run file: {exc!r}") from exc


def _run_from(fields: Mapping[str, object]) -> Run:
    return Run(
        started_at=str(fields["started_at"]),
        bundles=str(fields["bundles"]),
        clock=str(fields["clock"]),
        control_file=str(fields["control_file"]),
        supervisor=_identity_from(_object(fields["supervisor"])),
        processes=tuple(_process_from(_object(one)) for one in _list(fields["processes"])),
    )


def _identity_from(fields: Mapping[str, object]) -> ProcessIdentity:
    return ProcessIdentity(_pid(fields["pid"]), str(fields["started"]))


def _process_from(fields: Mapping[str, object]) -> RunningProcess:
    return RunningProcess(
        name=str(fields["name"]),
        address=str(fields["address"]),
        pid=_pid(fields["pid"]),
        started=str(fields["started"]),
        protocol=str(fields["protocol"]),
        restarts=_count(fields["restarts"]),
    )


def _pid(value: object) -> int:
    # Pids up to 0 address process groups, up to "every process", in kill(2).
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"a pid is a whole number from 1, not {value!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"a count is a whole number from 0, not {value!r}")
    return value


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, not {value!r}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, not {value!r}")
    return value
