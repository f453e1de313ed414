"""The life of real server processes, sync and aio alike."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshkit.addresses import split_address
from tests.integration.meshkit_children import DEADLINE_S, Child, child, free_port, wait_until
from tests.integration.meshkit_echo import ECHO, HOLD, SERVICE, STOP

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

FAST_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50))
NO_RETRIES = (("grpc.enable_retries", 0),)
KINDS = pytest.mark.parametrize("kind", ["sync", "aio"])


@pytest.fixture(scope="module", params=["sync", "aio"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Child]:
    """A server that no test changes."""
    directory = tmp_path_factory.mktemp("running")
    with child(directory, request.param, RECMESH_REFLECTION="true") as server:
        server.wait_until_serving()
        yield server


def check(channel: grpc.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = stub.Check(request, timeout=DEADLINE_S, wait_for_ready=True).status
    return status


def call(channel: Any, method: str, request: bytes, *, wait_for_ready: bool = True) -> bytes:
    answer: bytes = channel.unary_unary(method)(
        request, timeout=DEADLINE_S, wait_for_ready=wait_for_ready
    )
    return answer


def is_listening(address: str) -> bool:
    host, port = split_address(address)
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def held_call(channel: Any, held: Path) -> Any:
    """Start a call that runs until the file `held` is removed, and wait for its beginning."""
    running_call = channel.unary_unary(HOLD).future(str(held).encode(), timeout=DEADLINE_S)
    wait_until(lambda: held.exists() or running_call.done())
    return running_call


def test_a_serving_process_is_healthy_under_every_name(running: Child) -> None:
    with grpc.insecure_channel(running.address) as channel:
        assert check(channel) == SERVING
        assert check(channel, SERVICE) == SERVING
        assert call(channel, ECHO, b"hello") == b"a:hello"


def test_reflection_lists_the_services_when_asked_for(running: Child) -> None:
    with grpc.insecure_channel(running.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=DEADLINE_S)

    listed = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} < listed


def test_a_port_in_use_ends_the_start_with_its_address(running: Child, tmp_path: Path) -> None:
    with child(tmp_path, running.kind, "b", RECMESH_LISTEN=running.address) as second:
        status = second.exit_status()

    last_line = second.errors.read_text().splitlines()[-1]
    assert status == 1
    assert last_line.startswith(f"error: RECMESH_LISTEN='{running.address}': cannot listen there")
    assert not second.address_file.exists()


@KINDS
def test_sigterm_lets_running_calls_end_and_exits_with_0(kind: str, tmp_path: Path) -> None:
    held, stopped = tmp_path / "held", tmp_path / "stopped"
    environment = {"ECHO_STOPPED": str(stopped), "RECMESH_DRAIN_S": "60"}
    with child(tmp_path, kind, **environment) as server:
        server.wait_until_serving()
        address = server.address
        with grpc.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            statuses = (answer.status for answer in watch)
            first_status = next(statuses)
            running_call = held_call(channel, held)

            server.process.send_signal(signal.SIGTERM)
            second_status = next(statuses)
            wait_until(lambda: not is_listening(address))
            was_running = not running_call.done()
            held.unlink()
            answer = running_call.result()
            status = server.exit_status()

    assert (first_status, second_status) == (SERVING, NOT_SERVING)
    assert was_running
    assert answer == b"let go"
    assert status == 0, server.errors.read_text()
    assert stopped.exists()
    assert not server.address_file.exists()


@KINDS
def test_calls_are_taken_for_a_while_after_health_says_not_serving(
    kind: str, tmp_path: Path
) -> None:
    with child(tmp_path, kind, RECMESH_SETTLE_S="60") as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            statuses = (answer.status for answer in watch)
            first_status = next(statuses)

            server.process.send_signal(signal.SIGTERM)
            second_status = next(statuses)
            answer = call(channel, ECHO, b"sent before the news came")

            assert (first_status, second_status) == (SERVING, NOT_SERVING)
            assert answer == b"a:sent before the news came"


@KINDS
def test_a_call_that_comes_after_the_balancing_interval_is_not_begun(
    kind: str, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    with child(tmp_path, kind, RECMESH_DRAIN_S="60", RECMESH_SETTLE_S="0") as server:
        server.wait_until_serving()
        address = server.address
        with grpc.insecure_channel(address, options=NO_RETRIES) as channel:
            running_call = held_call(channel, held)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_listening(address))
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, HOLD, str(tmp_path / "begun").encode(), wait_for_ready=False)
            held.unlink()

            assert running_call.result() == b"let go"
            assert server.exit_status() == 0
    # CANCELLED: the call and the news that the server goes were on the wire at the same time.
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert not (tmp_path / "begun").exists()


@KINDS
def test_a_sigterm_that_another_thread_receives_is_heard(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind) as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            call(channel, STOP, b"")

        assert server.exit_status() == 0


@KINDS
def test_a_second_sigterm_exits_at_once(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind, RECMESH_DRAIN_S="600") as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            running_call = held_call(channel, tmp_path / "held")
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not server.address_file.exists())
            server.process.send_signal(signal.SIGTERM)

            assert server.exit_status() == 128 + signal.SIGTERM
            assert running_call.code() is grpc.StatusCode.UNAVAILABLE


def test_a_call_that_never_ends_cannot_keep_the_process_alive(tmp_path: Path) -> None:
    with (
        child(tmp_path, "sync", "a", RECMESH_DRAIN_S="0.1") as sync_server,
        child(tmp_path, "aio", "b", RECMESH_DRAIN_S="0.1") as aio_server,
    ):
        servers = (sync_server, aio_server)
        for server in servers:
            server.wait_until_serving()
            with grpc.insecure_channel(server.address) as channel:
                held_call(channel, tmp_path / f"held by {server.kind}")
                server.process.send_signal(signal.SIGTERM)

        assert [server.exit_status() for server in servers] == [1, 1]

    for server in servers:
        assert "a thread is stuck; ending the process" in server.errors.read_text()


@KINDS
def test_nothing_is_served_before_the_process_is_warm(kind: str, tmp_path: Path) -> None:
    warming = tmp_path / "warming"
    warming.touch()
    stale = tmp_path / "a.address"
    stale.write_text("127.0.0.1:1")
    port = free_port()
    environment = {"ECHO_WARM": str(warming), "RECMESH_LISTEN": f"127.0.0.1:{port}"}
    with (
        child(tmp_path, kind, **environment) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=FAST_RECONNECT) as channel,
    ):
        assert check(channel) == NOT_SERVING
        assert check(channel, SERVICE) == NOT_SERVING
        assert not server.address_file.exists()
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, ECHO, b"early")

        warming.unlink()
        wait_until(lambda: check(channel) == SERVING)
        server.wait_until_serving()

        assert server.address == f"127.0.0.1:{port}"
        assert call(channel, ECHO, b"now") == b"a:now"
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "not ready"


@KINDS
def test_sigterm_ends_a_start_that_is_not_warm_yet(kind: str, tmp_path: Path) -> None:
    warming, stopped = tmp_path / "warming", tmp_path / "stopped"
    warming.touch()
    port = free_port()
    environment = {"ECHO_WARM": str(warming), "ECHO_STOPPED": str(stopped)}
    with (
        child(tmp_path, kind, RECMESH_LISTEN=f"127.0.0.1:{port}", **environment) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=FAST_RECONNECT) as channel,
    ):
        assert check(channel) == NOT_SERVING

        server.process.send_signal(signal.SIGTERM)

        assert server.exit_status() == 0, server.errors.read_text()
    assert stopped.exists()
    assert not server.address_file.exists()


def test_health_answers_while_every_worker_is_busy(tmp_path: Path) -> None:
    with child(tmp_path, "sync", RECMESH_MAX_WORKERS="1") as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            held_call(channel, tmp_path / "held")

            assert check(channel) == SERVING


def test_an_address_file_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "address")
    with child(tmp_path, "sync", RECMESH_ADDRESS_FILE=missing) as server:
        status = server.exit_status()

    assert status == 1
    last_line = server.errors.read_text().splitlines()[-1]
    assert last_line.startswith(f"error: RECMESH_ADDRESS_FILE='{missing}': No such file")
