"""A server for tests of meshkit: `python -m tests.integration.meshkit_echo sync|aio NAME`.

`Echo` answers with NAME and the request. `Hold` makes the file that the request names, then
answers when that file is gone: a call whose beginning and end a test decides. In the same way
ECHO_WARM names a file that holds the start, and ECHO_STOPPED one that `on_stop` makes. `Stop`
sends SIGTERM to a thread that is not the main one. With ECHO_PLACES an aio server admits so many.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from meshkit import telemetry
from meshkit.admission import Admission
from meshkit.concurrency import AdaptiveLimit, LimitRules
from meshkit.config import explained_exit, read_environment
from meshkit.logs import setup_logs
from meshkit.server import ServerSettings, serve_aio, serve_sync

SERVICE = "meshkit.test.v1.EchoService"
ECHO = f"/{SERVICE}/Echo"
HOLD = f"/{SERVICE}/Hold"
STOP = f"/{SERVICE}/Stop"
POLL_S = 0.005


def echo(request: bytes, _context: object) -> bytes:
    return sys.argv[2].encode() + b":" + request


def hold(request: bytes, _context: object) -> bytes:
    held = Path(request.decode())
    held.touch()
    while held.exists():
        time.sleep(POLL_S)
    return b"let go"


def stop(request: bytes, _context: object) -> bytes:
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    return request


async def echo_aio(request: bytes, context: object) -> bytes:
    return echo(request, context)


async def hold_aio(request: bytes, context: object) -> bytes:
    return await asyncio.to_thread(hold, request, context)


async def stop_aio(request: bytes, context: object) -> bytes:
    return await asyncio.to_thread(stop, request, context)


def register(server: Any) -> None:
    is_sync = isinstance(server, grpc.Server)
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo if is_sync else echo_aio),
        "Hold": grpc.unary_unary_rpc_method_handler(hold if is_sync else hold_aio),
        "Stop": grpc.unary_unary_rpc_method_handler(stop if is_sync else stop_aio),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))


def is_warming() -> bool:
    return "ECHO_WARM" in os.environ and Path(os.environ["ECHO_WARM"]).exists()


def warm() -> None:
    while is_warming():
        time.sleep(POLL_S)


async def warm_aio() -> None:
    while is_warming():
        await asyncio.sleep(POLL_S)


def leave_note() -> None:
    if "ECHO_STOPPED" in os.environ:
        Path(os.environ["ECHO_STOPPED"]).touch()


async def leave_note_aio() -> None:
    leave_note()


def admission() -> Admission | None:
    if "ECHO_PLACES" not in os.environ:
        return None
    places = int(os.environ["ECHO_PLACES"])
    return Admission(AdaptiveLimit(LimitRules(initial=places, minimum=places, maximum=places)))


def main() -> None:
    settings = read_environment(ServerSettings, os.environ)
    setup_logs("echo")
    telemetry.setup("echo", str(os.getpid()))
    try:
        serve(settings)
    finally:
        telemetry.shutdown()


def serve(settings: ServerSettings) -> None:
    names = (SERVICE,)
    if sys.argv[1] == "sync":
        serve_sync(settings, register, service_names=names, warm=warm, on_stop=leave_note)
    else:
        serve_aio(
            settings,
            register,
            service_names=names,
            warm=warm_aio,
            on_stop=leave_note_aio,
            admission=admission(),
        )


if __name__ == "__main__":
    with explained_exit():
        main()
