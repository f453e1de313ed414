"""`python -m benchmarks.load PLAN`: one load, in a process of its own.

It prints "ready" when it is connected, and begins when a line comes in. After the plan's
`ramp_s` it prints "began", `seconds` later "ended", and writes what ended in between. With
`seconds` 0 it asks every body once, and notes all.
"""

import base64
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.closed_loop import ClosedLoop, Ended
from benchmarks.load.grpc_wire import GrpcWire
from benchmarks.load.http1 import Http1
from benchmarks.load.plan import LoadPlan, LoadResult


class Window:
    """Opens and closes the time that is measured, while the load goes on asking."""

    def __init__(self, plan: LoadPlan, loop: ClosedLoop) -> None:
        self._loop = loop
        self._began_s = time.perf_counter() + plan.ramp_s
        self._seconds = plan.seconds
        self._is_open = False
        self._is_over = False
        self._cpu_s = 0.0
        self.result = LoadResult((), 0.0, 0.0)

    def wants_more(self) -> bool:
        """Tell whether to ask again; opens and closes the window when it is time."""
        if self._is_over:
            return False
        now_s = time.perf_counter()
        if not self._is_open and now_s >= self._began_s:
            self._open(now_s)
        elif self._is_open and now_s >= self._began_s + self._seconds:
            self._close(now_s)
        return not self._is_over

    def _open(self, now_s: float) -> None:
        self._is_open = True
        self._loop.ended.clear()
        print("began", flush=True)
        self._began_s = now_s
        self._cpu_s = time.process_time()

    def _close(self, now_s: float) -> None:
        self._is_over = True
        cpu_s = time.process_time() - self._cpu_s
        print("ended", flush=True)
        self.result = LoadResult(tuple(self._loop.ended), now_s - self._began_s, cpu_s)


def connected(plan: LoadPlan) -> ClosedLoop:
    """Return the loop: of gRPC one connection, of HTTP one a caller, spread over the addresses."""
    loop = ClosedLoop([base64.b64decode(body) for body in plan.bodies])
    if plan.protocol == "grpc":
        address = plan.addresses[0]
        loop.connect(address, GrpcWire(address, plan.path, plan.timeout_s), plan.callers)
        return loop
    for number in range(plan.callers):
        address = plan.addresses[number % len(plan.addresses)]
        loop.connect(address, Http1(address, plan.path), 1)
    return loop


def run(plan: LoadPlan, loop: ClosedLoop) -> LoadResult:
    """Return what ended in the measured time."""
    if plan.seconds:
        window = Window(plan, loop)
        loop.run(window.wants_more)
        return window.result
    began_s = time.perf_counter()
    loop.run(lambda: loop.asked() < len(plan.bodies))
    return LoadResult(tuple(loop.ended), time.perf_counter() - began_s, time.process_time())


def write(path: Path, result: LoadResult) -> None:
    """Write what ended, a line each, after a line of the rest."""
    with path.open("w") as out:
        out.write(json.dumps({"elapsed_s": result.elapsed_s, "cpu_s": result.cpu_s}) + "\n")
        out.writelines(f"{json.dumps(_line(each))}\n" for each in result.ended)


def _line(ended: Ended) -> Sequence[object]:
    body = None if ended.body is None else base64.b64encode(ended.body).decode()
    return (ended.request, ended.latency_s, body)


def main() -> None:
    """Run the plan in the file that the first argument names."""
    plan = LoadPlan.from_json(Path(sys.argv[1]).read_text())
    gc.freeze()
    gc.disable()  # a full collection would look like a late answer
    loop = connected(plan)
    print("ready", flush=True)
    sys.stdin.readline()
    result = run(plan, loop)
    loop.close()
    write(Path(plan.results), result)


if __name__ == "__main__":
    main()
