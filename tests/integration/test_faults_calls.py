"""A fault proxy that knows gRPC: passes calls on as they are, or fails them as it is told."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc

from meshctl.faults import Fault, FaultKind, FaultLevel
from meshctl.faults.calls_relay import RUBBISH_BYTES
from tests.integration.fault_proxies import FaultProxy, fault_proxy
from tests.integration.meshkit_children import DEADLINE_S, wait_until
from tests.integration.scripted_leaf import ScriptedLeaf, fail, propose

ROWS = [3, 1, 2]
GENERATE = "/recmesh.candidates.v1.CandidateService/Generate"
REQUEST = candidates_pb2.GenerateRequest(bundle_version="v1")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Stub = candidates_pb2_grpc.CandidateServiceStub


@pytest.fixture(scope="module")
def leaf() -> Iterator[ScriptedLeaf]:
    with ScriptedLeaf(propose(ROWS)).serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def leaf_proxy(
    tmp_path_factory: pytest.TempPathFactory, leaf: ScriptedLeaf
) -> Iterator[FaultProxy]:
    with fault_proxy(tmp_path_factory.mktemp("calls"), FaultLevel.CALLS, leaf.address) as proxy:
        yield proxy


@pytest.fixture
def proxy(leaf_proxy: FaultProxy, leaf: ScriptedLeaf) -> Iterator[FaultProxy]:
    """A proxy of calls before the leaf, healed at the end."""
    leaf.reset()
    yield leaf_proxy
    leaf_proxy.control.clear()
    leaf_proxy.control.wait_applied()


@pytest.fixture
def channel(proxy: FaultProxy) -> Iterator[grpc.Channel]:
    options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(proxy.address, options=options) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def rows_of(stub: Stub) -> list[int]:
    return list(stub.Generate(REQUEST, timeout=DEADLINE_S).rows)


def failure_of(stub: Stub, timeout_s: float = DEADLINE_S) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Generate(REQUEST, timeout=timeout_s)
    return raised.value


def test_a_call_passes_with_request_metadata_and_answer(stub: Stub, leaf: ScriptedLeaf) -> None:
    metadata = (("x-text", "here"), ("x-bin", b"\x00\xff"))

    response = stub.Generate(REQUEST, timeout=DEADLINE_S, metadata=metadata)

    (call,) = leaf.calls
    assert list(response.rows) == ROWS
    assert call.request == REQUEST
    assert set(metadata) <= call.metadata.items()


def test_the_servers_metadata_passes_back(stub: Stub, leaf: ScriptedLeaf) -> None:
    def with_metadata(request: Any, context: grpc.ServicerContext) -> Any:
        context.send_initial_metadata((("x-head", "h"),))
        context.set_trailing_metadata((("x-tail-bin", b"\x01"),))
        return propose(ROWS)(request, context)

    leaf.step = with_metadata

    _, call = stub.Generate.with_call(REQUEST, timeout=DEADLINE_S)

    assert ("x-head", "h") in call.initial_metadata()
    assert ("x-tail-bin", b"\x01") in call.trailing_metadata()


def test_the_servers_status_passes_back(stub: Stub, leaf: ScriptedLeaf) -> None:
    def refuse(_: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x03"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "rows: too many")

    leaf.step = refuse

    error = failure_of(stub)

    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "rows: too many",
    )
    assert ("grpc-status-details-bin", b"\x08\x03") in error.trailing_metadata()


@pytest.mark.parametrize("timeout_s", [0.9, 5.0, 5.004, 12.34])
def test_the_server_sees_no_more_time_than_the_caller_gave(
    stub: Stub, leaf: ScriptedLeaf, timeout_s: float
) -> None:
    def is_seen_in_time() -> bool:
        with suppress(grpc.RpcError):  # a short time may be over before the call is there
            stub.Generate(REQUEST, timeout=timeout_s)
        return any(call.remaining_s > 0 for call in leaf.calls)

    wait_until(is_seen_in_time)

    assert all(call.remaining_s <= timeout_s for call in leaf.calls)


def test_the_shortest_and_longest_time_left_are_counted(tmp_path: Path, leaf: ScriptedLeaf) -> None:
    with fault_proxy(tmp_path, FaultLevel.CALLS, leaf.address) as fresh:
        with grpc.insecure_channel(fresh.address) as opened:
            for timeout_s in (20.0, 10.0, 15.0):
                Stub(opened).Generate(REQUEST, timeout=timeout_s)
        counts = fresh.control.fresh_counts()

    assert counts.least_remaining_s is not None
    assert counts.most_remaining_s is not None
    assert 0 < counts.least_remaining_s <= 10.1  # gRPC rounds up what it sends
    assert 15.1 < counts.most_remaining_s <= 20.1
    assert counts.mesh_calls == 3


def test_a_call_without_deadline_stays_without(
    stub: Stub, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    before = proxy.control.fresh_counts().without_deadline

    stub.Generate(REQUEST)

    assert proxy.control.fresh_counts().without_deadline == before + 1
    assert leaf.calls[0].remaining_s is None or leaf.calls[0].remaining_s > 1e6


def test_a_call_that_the_caller_gives_up_ends_at_the_server(stub: Stub, leaf: ScriptedLeaf) -> None:
    leaf.step = leaf.hang
    future = stub.Generate.future(REQUEST, timeout=DEADLINE_S)
    wait_until(lambda: len(leaf.calls) == 1)

    future.cancel()

    wait_until(lambda: not leaf.calls[0].context.is_active())


def test_unavailable_is_answered_without_asking_the_server(
    stub: Stub, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    with proxy.control.injected(Fault(FaultKind.UNAVAILABLE)):
        error = failure_of(stub)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert leaf.calls == []
    assert rows_of(stub) == ROWS


def test_a_share_of_the_calls_is_hit_and_counted(
    stub: Stub, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    before = proxy.control.fresh_counts()
    with proxy.control.injected(Fault(FaultKind.UNAVAILABLE, share=0.5)):
        failed = sum(call_fails(stub) for _ in range(100))

    after = proxy.control.fresh_counts()
    assert 20 < failed < 80
    assert len(leaf.calls) == 100 - failed
    assert after.faults["unavailable"] - before.faults.get("unavailable", 0) == failed
    assert after.calls[GENERATE] - before.calls.get(GENERATE, 0) == 100


def call_fails(stub: Stub) -> bool:
    try:
        stub.Generate(REQUEST, timeout=DEADLINE_S)
    except grpc.RpcError:
        return True
    return False


def test_a_slow_answer_was_asked_for_and_comes_whole(
    stub: Stub, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    with proxy.control.injected(Fault(FaultKind.SLOW, delay_s=(0.02, 0.02))):
        rows = rows_of(stub)

    assert rows == ROWS
    assert len(leaf.calls) == 1


def test_an_answer_held_beyond_the_deadline_is_a_timeout(
    stub: Stub, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    assert rows_of(stub) == ROWS
    leaf.reset()
    timeouts_s = iter((0.3, 1.0, 4.0, 16.0))  # until one is long enough for the call to get there

    with proxy.control.injected(Fault(FaultKind.SLOW, delay_s=(600, 600))):
        while not leaf.calls:
            error = failure_of(stub, timeout_s=next(timeouts_s))

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(leaf.calls) == 1
    assert rows_of(stub) == ROWS


def test_rubbish_comes_with_status_ok(
    channel: grpc.Channel, leaf: ScriptedLeaf, proxy: FaultProxy
) -> None:
    with proxy.control.injected(Fault(FaultKind.RUBBISH)):
        generate: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GENERATE)
        answer, call = generate.with_call(b"", timeout=DEADLINE_S)

    assert len(answer) == RUBBISH_BYTES
    assert call.code() is grpc.StatusCode.OK
    assert leaf.calls == []
    assert rows_of(Stub(channel)) == ROWS


def test_no_message_can_be_made_of_rubbish(stub: Stub, proxy: FaultProxy) -> None:
    with proxy.control.injected(Fault(FaultKind.RUBBISH)):
        errors = [failure_of(stub) for _ in range(20)]

    assert {error.code() for error in errors} == {grpc.StatusCode.INTERNAL}


@contextmanager
def retrying(address: str) -> Iterator[Stub]:
    """Open a channel that sends a call again once."""
    policy = {
        "maxAttempts": 2,
        "initialBackoff": "0.01s",  # at 1 ms every other call hung until its deadline
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with grpc.insecure_channel(address, (("grpc.service_config", config),)) as opened:
        yield Stub(opened)


def test_retries_of_grpc_itself_are_told_from_first_attempts(proxy: FaultProxy) -> None:
    before = proxy.control.fresh_counts()

    with (
        proxy.control.injected(Fault(FaultKind.UNAVAILABLE)),
        retrying(proxy.address) as stub,
    ):
        failure_of(stub)

    after = proxy.control.fresh_counts()
    assert after.retries - before.retries == 1
    assert after.first_attempts - before.first_attempts == 1


def test_the_server_sees_which_attempt_it_is(proxy: FaultProxy, leaf: ScriptedLeaf) -> None:
    leaf.step = fail(grpc.StatusCode.UNAVAILABLE, "not now")

    with retrying(proxy.address) as stub:
        failure_of(stub)

    attempts = [call.metadata.get("grpc-previous-rpc-attempts") for call in leaf.calls]
    assert attempts == [None, "1"]


def test_health_is_hit_by_no_fault(channel: grpc.Channel, proxy: FaultProxy) -> None:
    with proxy.control.injected(Fault(FaultKind.UNAVAILABLE)):
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=DEADLINE_S
        )

    assert answer.status == SERVING


class WatchedHealth(health.HealthServicer):  # type: ignore[misc]  # its base publishes no types
    """Health that remembers the watches."""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[grpc.ServicerContext] = []

    def Watch(self, request: Any, context: Any, *more: Any) -> Any:  # noqa: N802  gRPC's own name
        self.watches.append(context)
        return super().Watch(request, context, *more)


@pytest.fixture
def checks() -> WatchedHealth:
    return WatchedHealth()


@pytest.fixture
def watched(
    tmp_path_factory: pytest.TempPathFactory, checks: WatchedHealth
) -> Iterator[grpc.Channel]:
    """A channel to a proxy before a server with `checks`."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        directory = tmp_path_factory.mktemp("watched")
        with (
            fault_proxy(directory, FaultLevel.CALLS, address) as proxy,
            grpc.insecure_channel(proxy.address) as opened,
        ):
            yield opened
        server.stop(grace=None).wait()


def test_a_health_watch_follows_changes_and_its_end_reaches_the_server(
    watched: grpc.Channel, checks: WatchedHealth
) -> None:
    checks.set("v1", SERVING)
    stream = health_pb2_grpc.HealthStub(watched).Watch(
        health_pb2.HealthCheckRequest(service="v1"), timeout=DEADLINE_S
    )

    first = next(stream).status
    checks.set("v1", NOT_SERVING)
    second = next(stream).status
    stream.cancel()

    assert (first, second) == (SERVING, NOT_SERVING)
    wait_until(lambda: not checks.watches[0].is_active())


def test_a_method_that_the_server_lacks_is_unimplemented(watched: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        Stub(watched).Generate(REQUEST, timeout=DEADLINE_S)

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
