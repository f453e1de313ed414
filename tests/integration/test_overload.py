"""More calls than a server gets through: who is refused, how, and what is never refused."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.trace import StatusCode

from meshkit.admission import WAITING_PER_PLACE, Admission, CallPool
from meshkit.concurrency import DEFAULT_RULES, AdaptiveLimit, LimitRules
from meshkit.server import MAX_OPEN_CALLS_AIO
from tests.integration.meshkit_children import child
from tests.integration.meshkit_echo import HOLD
from tests.integration.probe_server import (
    DEADLINE_S,
    SERVICE,
    Behaviour,
    Probe,
    raising,
    started,
    wait_until,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
PATIENT_S = 20.0
NO_DEADLINE = None  # counts as hurried, as a short one does, and cannot pass on a slow machine


def admission(places: int) -> Admission:
    rules = LimitRules(initial=places, minimum=places, maximum=places)
    return Admission(AdaptiveLimit(rules))


class Hold:
    """A behaviour that keeps the request `hold` until it is let go, and answers others at once."""

    def __init__(self, kind: str) -> None:
        self.begun: list[bytes] = []
        self._kind = kind
        self._go = threading.Event()

    def __call__(self, request: bytes, _context: Any) -> Any:
        self.begun.append(request)
        if request != b"hold":
            return request
        return self._wait_aio() if self._kind == "aio" else self._wait()

    def let_go(self) -> None:
        self._go.set()

    def _wait(self) -> bytes:
        assert self._go.wait(DEADLINE_S)
        return b"held"

    async def _wait_aio(self) -> bytes:
        while not self._go.is_set():
            await asyncio.sleep(0.001)
        return b"held"


@contextmanager
def full(kind: str) -> Iterator[tuple[Probe, Hold, list[Any]]]:
    """Serve with no room left: held calls take the places, or the thread and its queue."""
    hold = Hold(kind)
    with started(kind, admission=admission(2), pool=CallPool(1, max_waiting=1)) as probe:
        probe.behaviour = hold
        calls = [probe.begin(b"hold", timeout=NO_DEADLINE) for _ in range(2)]
        if kind == "aio":
            wait_until(lambda: len(hold.begun) == 2)
        else:
            wait_until(lambda: probe.pool.is_full)
        yield probe, hold, calls
        hold.let_go()


@pytest.fixture(params=["sync", "aio"])
def full_probe(request: pytest.FixtureRequest) -> Iterator[tuple[Probe, Hold, list[Any]]]:
    with full(request.param) as parts:
        yield parts


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value


def test_a_full_server_refuses_at_once_and_says_when_to_come_back(
    full_probe: tuple[Probe, Hold, list[Any]],
) -> None:
    probe, hold, calls = full_probe
    decoded: list[bytes] = []

    def decode(request: bytes) -> bytes:
        decoded.append(request)
        return request

    probe.decode = decode

    error = refused(lambda: probe.call_again(b"one more", timeout=NO_DEADLINE))

    detail = RetryInfo()
    assert rpc_status.from_call(error).details[0].Unpack(detail)
    assert detail.retry_delay.ToMilliseconds() > 0
    assert error.details() == "overloaded"
    assert not any(call.done() for call in calls)
    assert b"one more" not in hold.begun + decoded


def test_a_refused_calls_span_is_no_error_and_has_no_stack_trace(
    full_probe: tuple[Probe, Hold, list[Any]],
) -> None:
    probe, _, _ = full_probe

    refused(lambda: probe.call_again(b"one more", timeout=NO_DEADLINE))

    span = probe.span()
    (event,) = span.events
    assert span.attributes is not None
    assert event.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "RESOURCE_EXHAUSTED"
    assert span.status.status_code is StatusCode.UNSET
    assert set(event.attributes) == {"exception.type", "exception.message"}


def test_who_was_let_in_is_answered_and_makes_room(
    full_probe: tuple[Probe, Hold, list[Any]],
) -> None:
    probe, hold, calls = full_probe
    refused(lambda: probe.call_again(b"one more", timeout=NO_DEADLINE))

    hold.let_go()

    assert [call.result() for call in calls] == [b"held", b"held"]
    assert probe.call_again(b"then") == b"then"


def test_a_full_aio_server_still_answers_health_and_reflection() -> None:
    with full("aio") as (probe, _, _):
        checks = health_pb2_grpc.HealthStub(probe.channel)
        listing = reflection_pb2_grpc.ServerReflectionStub(probe.channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")

        check = checks.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        watch = checks.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        first = next(iter(watch))
        watch.cancel()
        (answer,) = listing.ServerReflectionInfo(iter([question]), timeout=DEADLINE_S)

    assert check.status == first.status == SERVING
    assert SERVICE in [service.name for service in answer.list_services_response.service]


def abort(_request: bytes, context: Any) -> Any:
    return context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


@pytest.mark.parametrize("behaviour", [raising(RuntimeError("no")), abort])
def test_a_call_that_fails_gives_its_place_back(behaviour: Behaviour) -> None:
    places = admission(1)
    with started("aio", admission=places) as probe:
        probe.failed_call(behaviour, timeout=NO_DEADLINE)
        wait_until(lambda: places.in_flight == 0)

        assert probe.call(lambda request, _: request, timeout=NO_DEADLINE) == b"question"


def test_a_place_is_held_by_work_that_outlives_its_caller() -> None:
    places = admission(1)
    end = threading.Event()

    async def work() -> bytes:
        while not end.is_set():
            await asyncio.sleep(0.001)
        return b"nobody waits for this"

    async def behave() -> bytes:
        task = asyncio.create_task(work())
        places.keep_until(task)
        return await asyncio.shield(task)

    with started("aio", admission=places) as probe:
        late = probe.outlived_call(lambda *_: behave())
        wait_until(lambda: probe.gate.running == 0)
        probe.behaviour = lambda request, _: request
        refused(lambda: probe.call_again(timeout=NO_DEADLINE))
        end.set()
        wait_until(lambda: places.in_flight == 0)

        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert probe.call(lambda request, _: request, timeout=NO_DEADLINE) == b"question"


def begin_patient(probe: Probe, places: Admission) -> Any:
    """Begin a call that waits for a place now; another one where it waited too long to be seen."""
    calls = [probe.begin(b"patient", timeout=PATIENT_S)]

    def waits() -> bool:
        if calls[-1].done():
            calls.append(probe.begin(b"patient", timeout=PATIENT_S))
        return places.waiting == 1

    wait_until(waits)
    return calls[-1]


def test_a_patient_call_waits_for_a_place_and_is_answered() -> None:
    def outcomes() -> list[Any]:
        places, hold = admission(2), Hold("aio")
        with started("aio", admission=places) as probe:
            probe.behaviour = hold
            held = probe.begin(b"hold", timeout=NO_DEADLINE)
            wait_until(lambda: places.in_flight == 1)
            patient = begin_patient(probe, places)

            hold.let_go()
            return [outcome(held), outcome(patient)]

    # A machine that stands still for longer than a call may wait has it refused.
    assert any(outcomes() == [b"held", b"patient"] for _ in range(5))


def test_a_caller_that_hangs_up_while_it_waits_leaves_no_trace() -> None:
    places = admission(2)
    hold = Hold("aio")
    with started("aio", admission=places) as probe:
        probe.behaviour = hold
        held = probe.begin(b"hold")
        wait_until(lambda: places.in_flight == 1)
        patient = begin_patient(probe, places)

        patient.cancel()
        wait_until(lambda: places.waiting == 0)
        hold.let_go()
        held.result()
        wait_until(lambda: places.in_flight == 0)

    assert hold.begun == [b"hold"]


def test_a_call_whose_deadline_passed_while_it_waited_for_a_thread_does_no_work() -> None:
    hold = Hold("sync")
    with started("sync") as probe:
        probe.behaviour = hold
        held = probe.begin(b"hold")
        wait_until(lambda: hold.begun == [b"hold"])
        with pytest.raises(grpc.RpcError) as caught:
            probe.call_again(b"late", timeout=0.1)

        hold.let_go()
        held.result()
        assert probe.call_again(b"then") == b"then"

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert hold.begun == [b"hold", b"then"]


def test_a_call_whose_deadline_passed_while_the_loop_was_busy_does_no_work() -> None:
    begun: list[bytes] = []
    is_blocking, go = threading.Event(), threading.Event()

    def behave(request: bytes, _context: Any) -> bytes:
        begun.append(request)
        if request == b"block":
            is_blocking.set()
            assert go.wait(DEADLINE_S)
        return request

    with started("aio") as probe:
        probe.behaviour = behave
        blocking = probe.begin(b"block")
        assert is_blocking.wait(DEADLINE_S)
        with pytest.raises(grpc.RpcError) as caught:
            probe.call_again(b"late", timeout=0.1)

        go.set()
        blocking.result()
        assert probe.call_again(b"then") == b"then"

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert begun == [b"block", b"then"]


def _let_go(held: Path, calls: list[Any]) -> bool:
    """End the calls that hold: each makes the file anew when its turn comes."""
    held.unlink(missing_ok=True)
    return all(call.done() for call in calls)


def outcome(call: Any) -> Any:
    return call.code() if call.exception() else call.result()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sync", {"RECMESH_MAX_WORKERS": "1", "RECMESH_MAX_WAITING": "2"}),
        ("aio", {"ECHO_PLACES": "3"}),
    ],
)
def test_a_process_takes_as_many_calls_as_it_is_told(
    kind: str, settings: dict[str, str], tmp_path: Path
) -> None:
    held = tmp_path / "held"
    with child(tmp_path, kind, **settings) as server:
        server.wait_until_serving()
        with grpc.insecure_channel(server.address) as channel:
            hold: Any = channel.unary_unary(HOLD)
            calls = [hold.future(str(held).encode(), timeout=NO_DEADLINE) for _ in range(8)]
            wait_until(lambda: sum(call.done() for call in calls) == 5)
            check = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=DEADLINE_S
            )
            wait_until(lambda: _let_go(held, calls))
            outcomes = [outcome(call) for call in calls]

    assert check.status == SERVING
    assert outcomes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 5
    assert outcomes.count(b"let go") == 3


def test_grpcs_own_limit_stands_far_above_what_admission_lets_in_and_wait() -> None:
    most = DEFAULT_RULES.maximum * (1 + WAITING_PER_PLACE)

    assert most + 500 <= MAX_OPEN_CALLS_AIO  # health watchers count among them
