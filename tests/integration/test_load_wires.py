"""The benchmark's load, against real servers: they understand it, and it counts what comes."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.grpc_wire import GrpcWire, frame
from benchmarks.load.http1 import Http1
from benchmarks.load.process import Target, ask_once, measure
from benchmarks.load.wire import Wire, WireError

REFUSED = b"refused"
LONG = b"long"
LONG_BYTES = 200_000
"""More than HTTP/2's default window and than one read."""
PATH = "/any.Service/Any"


def reply(body: bytes) -> bytes:
    return b"x" * LONG_BYTES if body == LONG else b"answer to " + body


class _Grpc(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            if body == REFUSED:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            assert (context.time_remaining() or 0) > 1
            return reply(body)

        assert handler_call_details.method == PATH
        return grpc.unary_unary_rpc_method_handler(answer)


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = reply(body)
        self.send_response(503 if body == REFUSED else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def grpc_address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Grpc(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def http_address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Http) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture(params=["grpc", "http"])
def connect(request: pytest.FixtureRequest) -> Callable[[ClosedLoop, int], None]:
    address: str = request.getfixturevalue(f"{request.param}_address")

    def connect(loop: ClosedLoop, callers: int) -> None:
        if request.param == "grpc":
            loop.connect(address, GrpcWire(address, PATH, 10), callers)
            return
        for _ in range(callers):
            loop.connect(address, Http1(address, PATH), 1)

    return connect


def asked(
    connect: Callable[[ClosedLoop, int], None], bodies: list[bytes], callers: int
) -> dict[int, bytes | None]:
    loop = ClosedLoop(bodies)
    connect(loop, callers)
    loop.run(lambda: loop.asked() < len(bodies))
    loop.close()
    assert len(loop.ended) == len(bodies)
    assert all(ended.latency_s > 0 for ended in loop.ended)
    return {ended.request: ended.body for ended in loop.ended}


def test_every_request_gets_its_own_answer(connect: Callable[[ClosedLoop, int], None]) -> None:
    bodies = [b"request %d" % number for number in range(50)]

    answers = asked(connect, bodies, callers=5)

    assert answers == {number: reply(body) for number, body in enumerate(bodies)}


def test_a_refusal_is_an_error_and_the_next_request_is_answered(
    connect: Callable[[ClosedLoop, int], None],
) -> None:
    answers = asked(connect, [b"before", REFUSED, b"after"], callers=1)

    assert answers == {0: reply(b"before"), 1: None, 2: reply(b"after")}


def test_a_long_answer_comes_whole(connect: Callable[[ClosedLoop, int], None]) -> None:
    answers = asked(connect, [LONG, b"short"], callers=2)

    assert answers == {0: reply(LONG), 1: reply(b"short")}


@pytest.mark.parametrize("wire", [GrpcWire("h:1", PATH, 1), Http1("h:1", PATH)])
def test_bytes_that_come_one_at_a_time_make_one_answer(wire: Wire) -> None:
    wire.call(3, b"body")
    came = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    if isinstance(wire, GrpcWire):
        message = b"\x00\x00\x00\x00\x02ok"
        came = b"\x00\x00\x07\x00\x00\x00\x00\x00\x01" + message
        came += b"\x00\x00\x00\x01\x05\x00\x00\x00\x01"

    arrived = [one for byte in came for one in wire.receive(bytes([byte]))]

    assert arrived == [(3, b"ok")]


def test_settings_and_pings_are_acknowledged_once() -> None:
    wire = GrpcWire("h:1", PATH, 1)

    list(wire.receive(frame(4, 0, 0, b"") + frame(6, 0, 0, b"8 bytes.") + frame(4, 1, 0, b"")))

    assert wire.owed() == frame(4, 1, 0, b"") + frame(6, 1, 0, b"8 bytes.")
    assert wire.owed() == b""


def test_a_connection_that_the_server_closes_is_an_error_of_the_load(http_address: str) -> None:
    class Hasty(Http1):
        def call(self, caller: int, body: bytes) -> bytes:
            return super().call(caller, body).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)

    loop = ClosedLoop([b"one", b"two"])
    loop.connect(http_address, Hasty(http_address, PATH), 1)

    with pytest.raises(WireError, match="closed"):
        loop.run(lambda: loop.asked() < 3)

    loop.close()


def test_a_load_of_its_own_process_says_what_ended_and_what_it_cost(
    grpc_address: str, tmp_path: Path
) -> None:
    bodies = (b"a", b"b", REFUSED)
    target = Target(
        protocol="grpc",
        addresses=(grpc_address,),
        path=PATH,
        bodies=bodies,
        pids={"us": os.getpid()},
    )

    once = ask_once(target, tmp_path / "once.jsonl", callers=2)
    measured = measure(target, tmp_path / "some.jsonl", callers=2, ramp_s=0.1, seconds=0.3)

    assert {each.request: each.body for each in once.ended} == {
        0: reply(b"a"),
        1: reply(b"b"),
        2: None,
    }
    assert {each.request for each in measured.result.ended} == {0, 1, 2}
    assert measured.result.elapsed_s >= 0.3
    assert measured.result.cpu_s > 0
    assert measured.cpu_s.keys() == {"us"}
