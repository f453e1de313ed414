"""The drill's own processes: a load, heartbeats; none outlives its block."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from meshctl.drills.heartbeat import Stalls
from meshctl.drills.load import READY_TIMEOUT_S, LoadPlan
from meshctl.drills.records import Record, RecordFile, in_order

_STOP_S = 60.0
_POLL_S = 0.05


class DrillError(Exception):
    """A drill could not be run; says nothing about what it was to show."""


class LoadProcess:
    """A load that runs."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        path = Path(plan.records)
        path.unlink(missing_ok=True)
        self._file = RecordFile(path)
        plan_path = path.with_suffix(".plan.json")
        plan_path.write_text(plan.to_json(), encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-P", "-m", "meshctl.drills.load", str(plan_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_ready(self) -> None:
        """Return when it is connected. Raises DrillError when it is not."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line != "ready\n":
            raise DrillError(f"the load did not connect to {', '.join(self._plan.targets)}")

    def records(self) -> tuple[Record, ...]:
        """Return the requests that have ended so far, in the order that they ended."""
        return self._file.records()

    def await_requests(self, number: int) -> None:
        """Return when so many requests have ended. Raises DrillError when it takes too long."""
        expected_s = number / self._plan.per_s if self._plan.per_s else 0.0
        gives_up_s = time.monotonic() + 2 * expected_s + _STOP_S
        while len(self.records()) < number:
            if time.monotonic() > gives_up_s:
                raise DrillError(f"the load made {len(self.records())} requests, not {number}")
            time.sleep(_POLL_S)

    def stop(self) -> tuple[Record, ...]:
        """Let it end its last requests; return all."""
        if self._process.stdin:
            self._process.stdin.close()
        return self.wait(_STOP_S)

    def wait(self, limit_s: float) -> tuple[Record, ...]:
        """Wait until its plan is fulfilled; return all requests. Raises DrillError."""
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired as exc:
            raise DrillError(f"the load did not end within {limit_s:.0f} s") from exc
        if status != 0:
            raise DrillError(f"the load ended with status {status}")
        return in_order(self._file.records())

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


@contextmanager
def running_load(plan: LoadPlan) -> Iterator[LoadProcess]:
    """Run a load that is connected when the block begins."""
    load = LoadProcess(plan)
    try:
        load.await_ready()
        yield load
    finally:
        load.end()


class Heartbeats:
    """One heartbeat for each set of cores."""

    def __init__(self, directory: Path, core_sets: Sequence[Sequence[int]]) -> None:
        self._paths = [directory / f"stalls-{number}" for number, _ in enumerate(core_sets)]
        module = [sys.executable, "-P", "-m", "meshctl.drills.heartbeat"]
        self._processes = [
            subprocess.Popen([*module, str(path), *map(str, cores)])  # noqa: S603 - our own module
            for path, cores in zip(self._paths, core_sets, strict=True)
        ]

    def __enter__(self) -> "Heartbeats":
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not all(path.exists() for path in self._paths) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def stalls(self) -> Stalls:
        """Return the stalls so far."""
        return Stalls.read(self._paths)
