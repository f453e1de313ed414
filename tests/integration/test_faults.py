"""Fault proxies do what they are told, between real clients and real servers."""

import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc

from meshctl.faults import Fault, FaultControl, FaultControlError, FaultKind, FaultLevel
from meshkit.addresses import split_address
from tests.integration.fault_proxies import FaultProxy, fault_proxy, started_proxy
from tests.integration.meshkit_children import DEADLINE_S, free_port, wait_until
from tests.integration.scripted_leaf import ScriptedLeaf, propose

ROWS = [3, 1, 2]
FAST_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 50),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes."""

    def handle(self) -> None:
        while chunk := self.request.recv(65_536):
            self.request.sendall(chunk)


@pytest.fixture(scope="module")
def leaf() -> Iterator[ScriptedLeaf]:
    with ScriptedLeaf(propose(ROWS)).serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def grpc_proxy(
    tmp_path_factory: pytest.TempPathFactory, leaf: ScriptedLeaf
) -> Iterator[FaultProxy]:
    with fault_proxy(tmp_path_factory.mktemp("grpc"), FaultLevel.BYTES, leaf.address) as proxy:
        yield proxy


@pytest.fixture
def before_leaf(grpc_proxy: FaultProxy, leaf: ScriptedLeaf) -> Iterator[FaultProxy]:
    """A proxy of bytes before the leaf, healed at the end."""
    leaf.reset()
    yield grpc_proxy
    heal(grpc_proxy)


@pytest.fixture(scope="module")
def echo_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        upstream = f"127.0.0.1:{server.server_address[1]}"
        with fault_proxy(tmp_path_factory.mktemp("echo"), FaultLevel.BYTES, upstream) as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def before_echo(echo_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy of bytes before an echo, healed at the end."""
    yield echo_proxy
    heal(echo_proxy)


@pytest.fixture
def stub(before_leaf: FaultProxy) -> Iterator[candidates_pb2_grpc.CandidateServiceStub]:
    with grpc.insecure_channel(before_leaf.address, options=FAST_RECONNECT) as channel:
        yield candidates_pb2_grpc.CandidateServiceStub(channel)


def heal(proxy: FaultProxy) -> None:
    proxy.control.clear()
    proxy.control.wait_applied()


def connect(proxy: FaultProxy) -> socket.socket:
    connection = socket.create_connection(split_address(proxy.address), timeout=DEADLINE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        assert chunk, f"closed after {received!r}"
        received += chunk
    return received


def is_closed(connection: socket.socket) -> bool:
    """Wait for the end; True unless something came instead."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def outcome(
    stub: candidates_pb2_grpc.CandidateServiceStub, timeout_s: float = DEADLINE_S
) -> list[int] | grpc.StatusCode:
    """Return the rows of a call's answer, or how it failed."""
    try:
        return list(stub.Generate(candidates_pb2.GenerateRequest(), timeout=timeout_s).rows)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code


def test_bytes_pass_both_ways_when_no_fault_is_set(before_echo: FaultProxy) -> None:
    message = bytes(range(256)) * 40_000  # more than any buffer on the way holds

    with connect(before_echo) as connection:
        sending = threading.Thread(target=connection.sendall, args=(message,))
        sending.start()
        received = receive(connection, len(message))
        sending.join(DEADLINE_S)

    assert received == message


def test_an_end_passes_to_the_other_side(before_echo: FaultProxy) -> None:
    with connect(before_echo) as connection:
        connection.sendall(b"x")
        receive(connection, 1)

    wait_until(lambda: before_echo.control.counts().open_connections == 0)


@pytest.mark.parametrize(
    "fault", [Fault(), Fault(FaultKind.DELAY, delay_s=(0.05, 0.05))], ids=lambda fault: fault.kind
)
def test_the_servers_last_words_come_before_its_end(tmp_path: Path, fault: Fault) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        upstream = f"127.0.0.1:{server.getsockname()[1]}"
        with fault_proxy(tmp_path, FaultLevel.BYTES, upstream) as proxy:
            server.accept()[0].close()  # the proxy's own look whether the server is there
            with proxy.control.injected(fault), connect(proxy) as connection:
                accepted, _ = server.accept()
                with accepted:
                    accepted.sendall(b"bye")

                assert receive(connection, 3) == b"bye"
                assert is_closed(connection)


def test_a_black_hole_passes_nothing_and_replays_nothing(before_echo: FaultProxy) -> None:
    with connect(before_echo) as old:
        old.sendall(b"before")
        receive(old, 6)
        before_echo.control.set(Fault(FaultKind.BLACK_HOLE))
        before_echo.control.wait_applied()
        swallowed = before_echo.control.counts().faults.get("black_hole", 0)
        with connect(before_echo) as new:
            old.sendall(b"lost")
            new.sendall(b"lost")
            wait_until(
                lambda: before_echo.control.counts().faults.get("black_hole", 0) >= swallowed + 2
            )
            before_echo.control.clear()

            assert is_closed(old)
            assert is_closed(new)


def test_a_reset_ends_old_and_new_connections_with_rst(before_echo: FaultProxy) -> None:
    with connect(before_echo) as old:
        old.sendall(b"x")
        receive(old, 1)

        with before_echo.control.injected(Fault(FaultKind.RESET)):
            with pytest.raises(ConnectionResetError):
                old.recv(1)
            with pytest.raises(ConnectionResetError), connect(before_echo) as new:
                new.recv(1)


def test_garbage_has_the_length_of_what_it_replaces(before_echo: FaultProxy) -> None:
    message = b"what was said" * 5

    with before_echo.control.injected(Fault(FaultKind.GARBAGE)), connect(before_echo) as connection:
        connection.sendall(message)
        received = receive(connection, len(message))

    assert received != message


def test_a_garbled_connection_does_not_survive_healing(before_echo: FaultProxy) -> None:
    with connect(before_echo) as connection:
        with before_echo.control.injected(Fault(FaultKind.GARBAGE)):
            connection.sendall(b"x")
            receive(connection, 1)

        assert is_closed(connection)


def test_delayed_chunks_keep_their_order(before_echo: FaultProxy) -> None:
    held = before_echo.control.counts().faults.get("delay", 0)
    sent: list[bytes] = []

    with (
        before_echo.control.injected(Fault(FaultKind.DELAY, delay_s=(0, 0.2))),
        connect(before_echo) as connection,
    ):

        def many_chunks_are_held() -> bool:
            sent.append(b"%04d" % len(sent))
            connection.sendall(sent[-1])
            return before_echo.control.counts().faults.get("delay", 0) >= held + 10

        wait_until(many_chunks_are_held)
        received = receive(connection, 4 * len(sent))

    assert received == b"".join(sent)


def test_delayed_chunks_are_sent_when_the_fault_ends(before_echo: FaultProxy) -> None:
    held = before_echo.control.counts().faults.get("delay", 0)
    before_echo.control.set(Fault(FaultKind.DELAY, delay_s=(600, 600)))
    before_echo.control.wait_applied()

    with connect(before_echo) as connection:
        connection.sendall(b"held")
        wait_until(lambda: before_echo.control.counts().faults.get("delay", 0) > held)
        before_echo.control.clear()

        assert receive(connection, 4) == b"held"


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        (Fault(FaultKind.BLACK_HOLE), {grpc.StatusCode.DEADLINE_EXCEEDED}),
        (Fault(FaultKind.RESET), {grpc.StatusCode.UNAVAILABLE}),
        # No frame (UNKNOWN to a running call), or by chance the head of a long one.
        (
            Fault(FaultKind.GARBAGE),
            {
                grpc.StatusCode.UNKNOWN,
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            },
        ),
        (Fault(FaultKind.DELAY, delay_s=(600, 600)), {grpc.StatusCode.DEADLINE_EXCEEDED}),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_calls_fail_while_a_fault_is_in_force_and_succeed_afterwards(
    before_leaf: FaultProxy,
    stub: candidates_pb2_grpc.CandidateServiceStub,
    fault: Fault,
    failures: set[grpc.StatusCode],
) -> None:
    assert outcome(stub) == ROWS

    # Who cannot come too late has the time of a busy machine.
    is_late = grpc.StatusCode.DEADLINE_EXCEEDED in failures
    with before_leaf.control.injected(fault):
        failed = outcome(stub, timeout_s=0.3 if is_late else DEADLINE_S)

    assert failed in failures
    wait_until(lambda: outcome(stub) == ROWS)


def test_a_black_hole_keeps_calls_from_the_leaf(
    before_leaf: FaultProxy,
    leaf: ScriptedLeaf,
    stub: candidates_pb2_grpc.CandidateServiceStub,
) -> None:
    assert outcome(stub) == ROWS

    with before_leaf.control.injected(Fault(FaultKind.BLACK_HOLE)):
        outcome(stub, timeout_s=0.2)
    wait_until(lambda: outcome(stub) == ROWS)

    assert len(leaf.calls) == 2


def test_connections_are_counted(before_echo: FaultProxy) -> None:
    before = before_echo.control.fresh_counts()

    with connect(before_echo), connect(before_echo):
        wait_until(
            lambda: before_echo.control.counts().open_connections == before.open_connections + 2
        )

    wait_until(lambda: before_echo.control.counts().open_connections == before.open_connections)
    assert before_echo.control.counts().connections == before.connections + 2


def test_a_bad_control_file_leaves_the_fault_in_force_and_is_logged(
    before_leaf: FaultProxy, stub: candidates_pb2_grpc.CandidateServiceStub
) -> None:
    with before_leaf.control.injected(Fault(FaultKind.RESET)):
        before_leaf.control.path.write_text('{"generation": 99, "kind": "explode"}')
        wait_until(lambda: before_leaf.control.counts().refused_generation == 99)

        assert outcome(stub) == grpc.StatusCode.UNAVAILABLE

    why = "kind 'explode'; allowed at level bytes: none, black_hole, reset, garbage, delay"
    assert why in before_leaf.child.errors.read_text()
    assert before_leaf.control.counts().refused == ""


def test_a_fault_of_another_level_is_refused_to_the_driver(before_leaf: FaultProxy) -> None:
    before_leaf.control.set(Fault(FaultKind.UNAVAILABLE))

    with pytest.raises(FaultControlError, match="kind 'unavailable'; allowed at level bytes"):
        before_leaf.control.wait_applied()


def test_no_control_file_is_no_fault(
    before_leaf: FaultProxy, stub: candidates_pb2_grpc.CandidateServiceStub
) -> None:
    before_leaf.control.set(Fault(FaultKind.RESET))
    before_leaf.control.wait_applied()

    before_leaf.control.path.unlink()

    wait_until(lambda: outcome(stub) == ROWS)


def test_a_fault_set_before_the_start_hits_the_first_connection(tmp_path: Path) -> None:
    control = FaultControl(tmp_path / "bytes.fault.json")
    control.set(Fault(FaultKind.RESET))

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        fault_proxy(tmp_path, FaultLevel.BYTES, f"127.0.0.1:{server.getsockname()[1]}") as proxy,
        connect(proxy) as connection,
        pytest.raises(ConnectionResetError),
    ):
        connection.recv(1)


def test_a_server_that_is_gone_looks_like_a_reset(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        upstream = f"127.0.0.1:{server.getsockname()[1]}"
        with fault_proxy(tmp_path, FaultLevel.BYTES, upstream) as proxy:
            server.close()
            with connect(proxy) as connection, pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_a_proxy_is_announced_once_its_server_can_be_reached(tmp_path: Path) -> None:
    port = free_port()
    listen = f"127.0.0.1:{free_port()}"
    settings = {"RECMESH_UPSTREAM": f"127.0.0.1:{port}", "RECMESH_LISTEN": listen}

    with started_proxy(tmp_path, "early", **settings) as child:
        wait_until(lambda: is_listening(listen))
        was_announced = child.address_file.exists()
        with socket.create_server(("127.0.0.1", port)):
            child.wait_until_serving()

        assert not was_announced
        assert child.address == listen


def is_listening(address: str) -> bool:
    try:
        socket.create_connection(split_address(address)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("level", list(FaultLevel))
def test_sigterm_ends_a_proxy_with_status_0(tmp_path: Path, level: FaultLevel) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        fault_proxy(tmp_path, level, f"127.0.0.1:{server.getsockname()[1]}") as proxy,
        connect(proxy),
    ):
        proxy.child.process.send_signal(signal.SIGTERM)

        assert proxy.child.exit_status() == 0
        assert not proxy.child.address_file.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "RECMESH_UPSTREAM is not set; allowed: host:port"),
        ({"RECMESH_UPSTREAM": "127.0.0.1:0"}, "has no port that can be called"),
        (
            {"RECMESH_UPSTREAM": "127.0.0.1:1", "RECMESH_FAULT_LEVEL": "http"},
            "not one of the choices; allowed: bytes, calls, dynamodb",
        ),
        (
            {"RECMESH_UPSTREAM": "127.0.0.1:1", "RECMESH_LISTEN": "192.0.2.1:0"},
            "RECMESH_LISTEN='192.0.2.1:0': cannot listen there",
        ),
    ],
    ids=["no upstream", "no port", "no level", "no host of ours"],
)
def test_a_bad_setting_ends_the_start_with_its_name(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with started_proxy(tmp_path, "bad", **settings) as child:
        assert child.exit_status() == 1

        assert message in child.errors.read_text()
