"""What the hops of a request cost with nothing in them: `python -m benchmarks.hops`.

A gateway on `grpc.aio` that makes three calls at once and then a fourth, each to a process with a
sync server, as the mesh does, but without any work, interceptor, health check or trace: every
message is bytes of the usual size, sent back unread. What it takes is what gRPC in Python takes.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.load.process import Measured, Target, measure
from benchmarks.machine import machine_facts

LOOPBACK = "127.0.0.1"
METHOD = "/bare/Call"
LEAVES = 4
LEAF_THREADS = 4
CALLERS = (1, 8, 32)
ROUNDS = 3
SECONDS = 3.0
RAMP_S = 1.0
MESSAGE = bytes(2_400)
"""A source's answer of 200 rows and scores; requests with a history are about as large."""
TIMEOUT_S = 5.0


class _Answers(grpc.GenericRpcHandler):
    """Gives every call to one handler, which takes and returns bytes."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        """Return the handler."""
        return grpc.unary_unary_rpc_method_handler(self._handle)


def serve_leaf() -> None:
    """Answer every call at once, until standard input closes."""
    server = grpc.server(ThreadPoolExecutor(LEAF_THREADS))
    server.add_generic_rpc_handlers((_Answers(lambda _request, _context: MESSAGE),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    print(f"{LOOPBACK}:{port}", flush=True)
    sys.stdin.read()
    server.stop(None)


async def serve_gateway(leaves: Sequence[str]) -> None:
    """Answer every call after three calls at once and a fourth, until standard input closes."""
    channels = [grpc.aio.insecure_channel(leaf) for leaf in leaves]
    calls: list[Any] = [channel.unary_unary(METHOD) for channel in channels]
    *sources, ranker = calls

    async def handle(_request: bytes, _context: Any) -> bytes:
        await asyncio.gather(*(source(MESSAGE, timeout=TIMEOUT_S) for source in sources))
        await ranker(MESSAGE, timeout=TIMEOUT_S)
        return MESSAGE

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Answers(handle),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    print(f"{LOOPBACK}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


@contextmanager
def running() -> Iterator[Target]:
    """Run a gateway and its leaves until the block ends."""
    with ExitStack() as processes:
        leaves = [processes.enter_context(_process("leaf")) for _ in range(LEAVES)]
        gateway = processes.enter_context(_process("gateway", *(one for _, one in leaves)))
        pids = {f"leaf-{number}": pid for number, (pid, _) in enumerate(leaves)}
        yield Target(
            protocol="grpc",
            addresses=(gateway[1],),
            path=METHOD,
            bodies=(MESSAGE,),
            pids={"gateway": gateway[0], **pids},
        )


@contextmanager
def _process(*role: str) -> Iterator[tuple[int, str]]:
    command = [sys.executable, "-P", "-m", "benchmarks.hops", *role]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        yield process.pid, process.stdout.readline().strip()
        process.communicate()  # closes its standard input, which ends it


def summary(callers: int, rounds: Sequence[Measured]) -> dict[str, float]:
    """Return requests a second and processor time of a request, medians of the rounds."""

    def cpu_ms(names: Sequence[str], one: Measured) -> float:
        return sum(one.cpu_s[name] for name in names) / len(one.result.ended) * 1e3

    def of(names: Sequence[str]) -> float:
        return round(median(cpu_ms(names, one) for one in rounds), 3)

    every = list(rounds[0].cpu_s)
    return {
        "callers": callers,
        "per_s": round(median(len(one.result.ended) for one in rounds) / SECONDS, 1),
        "cpu_ms": of(every),
        "gateway_ms": of(["gateway"]),
        "leaves_ms": of([name for name in every if name != "gateway"]),
    }


def table(rows: Sequence[Mapping[str, float]]) -> Table:
    """Return the figures as a table."""
    shown = Table(title="Bare hops: one gateway, three calls at once and a fourth")
    for name in rows[0]:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*(f"{figure:g}" for figure in row.values()))
    return shown


def main() -> None:
    """Measure, print a table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="*", help="of a process that this starts itself")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    match arguments.role:
        case ["leaf"]:
            return serve_leaf()
        case ["gateway", *leaves]:
            return asyncio.run(serve_gateway(leaves))
    with tempfile.TemporaryDirectory() as made, running() as target:
        load = Path(made) / "load.jsonl"
        rows = [
            summary(
                callers,
                [
                    measure(target, load, callers=callers, ramp_s=RAMP_S, seconds=SECONDS)
                    for _ in range(ROUNDS)
                ],
            )
            for callers in CALLERS
        ]
    Console().print(table(rows))
    if arguments.json:
        found = {"machine": machine_facts(), "rows": rows}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
