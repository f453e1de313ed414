"""A server that keeps the mesh's process contract and does nothing else.

STAND_IN_FAULT makes it misbehave: "dies" before it serves, "hangs" before it
serves, "stubborn" ignores SIGTERM, "parent" starts a child that ignores it and
writes its pid to STAND_IN_CHILD_FILE. STAND_IN_FAULTY_LIVES="2,3" spares its
other lives, which it counts in STAND_IN_LIVES_FILE.
"""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

_LIFE_S = 120.0  # so that a failing test leaves nothing behind for long
_SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"


def main() -> None:
    fault = _fault_of_this_life()
    stopping = threading.Event()
    is_stubborn = fault == "stubborn"
    signal.signal(signal.SIGTERM, signal.SIG_IGN if is_stubborn else lambda *_: stopping.set())
    if fault == "dies":
        print("cannot read its bundle")
        sys.exit(3)
    if fault == "parent":
        child = subprocess.Popen([sys.executable, "-c", _SLEEPER])
        Path(os.environ["STAND_IN_CHILD_FILE"]).write_text(str(child.pid))
    if fault != "hangs":
        _serve()
    stopping.wait(_LIFE_S)


def _fault_of_this_life() -> str:
    fault = os.environ.get("STAND_IN_FAULT", "")
    faulty_lives = os.environ.get("STAND_IN_FAULTY_LIVES")
    if faulty_lives is None:
        return fault
    lives_file = Path(os.environ["STAND_IN_LIVES_FILE"])
    with lives_file.open("a") as file:
        file.write(".")
    return fault if str(len(lives_file.read_text())) in faulty_lives.split(",") else ""


def _serve() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(os.environ.get("RECMESH_LISTEN", "127.0.0.1:0"))
    server.start()
    _SERVERS.append(server)
    address_file = Path(os.environ["RECMESH_ADDRESS_FILE"])
    unfinished = address_file.with_suffix(".unfinished")
    unfinished.write_text(f"127.0.0.1:{port}")
    unfinished.replace(address_file)
    print("serving; told of", os.environ.get("STAND_IN_TOLD", "nobody"))


_SERVERS: list[grpc.Server] = []

if __name__ == "__main__":
    main()
