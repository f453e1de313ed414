"""Probation: run a check in a child process, so that a crash or a hang is a verdict, not an outage.

The child is `python -P -m meshkit.probation LIMITS MODULE ARGUMENTS...`: it sets its own limits
and then becomes MODULE. Setting them between fork and exec instead would run Python in a forked
copy of a process with gRPC threads. A kernel timer ends a child whose parent died.
"""

import math
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

TIME_LIMIT_S = 60.0
"""A sound bundle takes 3 s of processor time, 9 s where a kernel must be compiled first; a machine
that also serves, or starts a whole mesh, may give the child a sixth of a core."""
MEMORY_LIMIT_BYTES = 4 << 30
"""Address space, mapped files included; the libraries alone take 1 GB of it."""

_OUTPUT_LIMIT_BYTES = 1 << 20
_LAST_BYTES = 4096
_MAX_REASON = 500
_SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Serving goes on beside the check, and every idle BLAS thread reserves address space."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to."""

    is_sound: bool
    reason: str
    """Why not; empty when sound."""


def on_probation(
    argv_module: str,
    arguments: Sequence[str],
    *,
    time_limit_s: float = TIME_LIMIT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Verdict:
    """Run `python -P -m argv_module arguments...` and return its verdict.

    Status 0 is sound. Any other status, a crash, and a child that does not end within
    `time_limit_s` (of processor time, or by the clock) are not; the reason holds the last line
    that the child wrote to stderr: a check writes there what it is about to do.
    """
    limits = f"{time_limit_s!r},{memory_limit_bytes}"
    argv = [sys.executable, "-P", "-m", "meshkit.probation", limits, argv_module, *arguments]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603 - this program's own modules
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **_SINGLE_THREADED},
            start_new_session=True,  # Ctrl-C and the parent's own signals are not verdicts
        )
        try:
            status = child.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            return Verdict(is_sound=False, reason=_after(f"no end in {time_limit_s:g} s", errors))
        finally:
            child.kill()
            child.wait()
        return _judge(status, errors)


def _judge(status: int, errors: IO[bytes]) -> Verdict:
    if status == 0:
        return Verdict(is_sound=True, reason="")
    if status < 0:
        name = signal.Signals(-status).name
        return Verdict(is_sound=False, reason=_after(f"crashed with {name}", errors))
    reason = _last_line(errors) or f"ended with status {status} and said nothing"
    return Verdict(is_sound=False, reason=reason)


def _after(fault: str, errors: IO[bytes]) -> str:
    last = _last_line(errors)
    return f"{fault}; last: {last}" if last else fault


def _last_line(errors: IO[bytes]) -> str:
    """Return the last line that is not empty, without control characters."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _LAST_BYTES))
    lines = errors.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return "".join(c if c.isprintable() else " " for c in last)[:_MAX_REASON].strip()


def _limit(time_limit_s: float, memory_limit_bytes: int) -> None:
    cpu_s = math.ceil(time_limit_s)
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTPUT_LIMIT_BYTES, _OUTPUT_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, time_limit_s + 1)  # SIGALRM ends a process by default


def main() -> None:
    """Set the limits of the first argument, then run the module of the second."""
    time_limit_s, memory_limit_bytes = sys.argv[1].split(",")
    _limit(float(time_limit_s), int(memory_limit_bytes))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
