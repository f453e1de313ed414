"""A load in a process of its own, and what the processes that it asks spend meanwhile."""

import base64
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.load.plan import LoadPlan, LoadResult
from benchmarks.machine import cpu_s


class LoadError(Exception):
    """A load could not be run; its own message is on standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is asked, and what."""

    protocol: Literal["grpc", "http"]
    addresses: tuple[str, ...]
    path: str
    bodies: tuple[bytes, ...]
    pids: Mapping[str, int]
    """Of every process that works for the answers, by name."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A load's result and the processor time that it cost, by process."""

    result: LoadResult
    cpu_s: Mapping[str, float]


def ask_once(target: Target, results: Path, *, callers: int) -> LoadResult:
    """Ask every body once. Raises LoadError."""
    with _running(_plan(target, results, callers)) as process:
        _tell(process, "\n")
    return LoadResult.read(results)


def measure(
    target: Target, results: Path, *, callers: int, ramp_s: float, seconds: float
) -> Measured:
    """Ask for `ramp_s`, then for `seconds` that are measured. Raises LoadError."""
    with _running(_plan(target, results, callers, ramp_s, seconds)) as process:
        _tell(process, "\n")
        _await(process, "began")
        before = _spent(target.pids)
        _await(process, "ended")
        after = _spent(target.pids)
    return Measured(LoadResult.read(results), {name: after[name] - before[name] for name in after})


def _plan(
    target: Target, results: Path, callers: int, ramp_s: float = 0.0, seconds: float = 0.0
) -> LoadPlan:
    return LoadPlan(
        protocol=target.protocol,
        addresses=target.addresses,
        path=target.path,
        bodies=tuple(base64.b64encode(body).decode() for body in target.bodies),
        callers=callers,
        results=str(results),
        ramp_s=ramp_s,
        seconds=seconds,
    )


@contextmanager
def _running(plan: LoadPlan) -> "Iterator[subprocess.Popen[str]]":
    """Run a load that is connected when the block begins and has ended when it ends."""
    path = Path(plan.results).with_suffix(".plan.json")
    path.write_text(plan.to_json())
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", "benchmarks.load", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _await(process, "ready")
        yield process
        if process.wait() != 0:
            raise LoadError(f"the load ended with status {process.returncode}")
    finally:
        process.kill()
        process.communicate()


def _tell(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.write(text)
    process.stdin.flush()


def _await(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline().strip()
    if line != word:
        raise LoadError(f"the load said {line!r} where {word!r} was due")


def _spent(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_s([pid]) for name, pid in pids.items()}
