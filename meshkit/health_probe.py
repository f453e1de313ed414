"""Ask a server whether it serves: `python -m meshkit.health_probe [HOST:PORT]`, status 0 if so.

For the health check of a container, which starts a program inside of it: no shell is needed.
Without an argument the server of the same container is asked, the one at RECMESH_LISTEN.
"""

import os
import sys
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.addresses import parse_address
from meshkit.config import PREFIX, ConfigError, explained_exit

TIMEOUT_S = 2.0
LISTEN = f"{PREFIX}LISTEN"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what the server says of itself as a whole; return 0 for SERVING, 1 for all else."""
    answer = probe(_address(arguments, environ))
    print(answer)
    return 0 if answer == "SERVING" else 1


def probe(address: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return the health that the server at `address` reports, or how asking failed."""
    # A proxy of the environment is not for a server in the same container.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer: {error.code().name}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _address(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    text = arguments[0] if arguments else environ.get(LISTEN, "")
    if not text:
        raise ConfigError(f"whom to ask: give HOST:PORT, or set {LISTEN}")
    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigError(f"whom to ask: {error}") from error


if __name__ == "__main__":
    with explained_exit():
        sys.exit(main(sys.argv[1:], os.environ))
