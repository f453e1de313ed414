"""Stand-ins for OpenTelemetry collectors: one that takes everything, one that never answers.

`python -m benchmarks.collectors` prints their addresses in one line and runs until its standard
input closes. A third, that nobody listens at, needs no process.
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

LOOPBACK = "127.0.0.1"


class _TakesAnything(grpc.GenericRpcHandler):
    """Answers every unary call with an empty message, which OTLP takes for success."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


def main() -> None:
    """Serve until standard input closes."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_TakesAnything(),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    with socket.create_server((LOOPBACK, 0)) as silent:  # accepts in the kernel, reads nothing
        print(f"{LOOPBACK}:{port} {LOOPBACK}:{silent.getsockname()[1]}", flush=True)
        sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
