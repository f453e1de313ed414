"""The blocking client: shared between threads, and gone when it is closed."""

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from recmesh_client import (
    AsyncRecommendationClient,
    InvalidRequest,
    RecommendationClient,
    Unavailable,
)
from tests.integration.scripted_gateway import ScriptedGateway, echo

PATIENCE_S = 20.0


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with ScriptedGateway(echo("v1")).serving() as gateway:
        yield gateway


def test_eight_threads_share_one_client_and_get_their_own_answers(gateway: ScriptedGateway) -> None:
    users = [f"user-{n}" for n in range(200)]

    with (
        RecommendationClient(gateway.address, default_timeout_s=PATIENCE_S) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        recommendations = list(pool.map(client.recommend, users))

    assert [r.recommendation_id for r in recommendations] == users


def test_it_takes_and_documents_what_the_asynchronous_client_does() -> None:
    for name in ("__init__", "recommend", "wait_until_ready"):
        blocking, asynchronous = (
            getattr(cls, name) for cls in (RecommendationClient, AsyncRecommendationClient)
        )
        assert inspect.signature(blocking) == inspect.signature(asynchronous)
        assert blocking.__doc__ == asynchronous.__doc__


def test_it_raises_what_the_asynchronous_client_raises(gateway: ScriptedGateway) -> None:
    with (
        RecommendationClient(gateway.address) as client,
        pytest.raises(InvalidRequest, match="page_size"),
    ):
        client.recommend(page_size=2**31)


def test_closing_leaves_no_thread(gateway: ScriptedGateway) -> None:
    before = set(threading.enumerate())
    client = RecommendationClient(gateway.address, default_timeout_s=PATIENCE_S)
    client.wait_until_ready(PATIENCE_S)
    client.recommend()
    assert set(threading.enumerate()) - before

    client.close()
    client.close()

    _eventually(lambda: not (_threads_of_clients() - before))


def test_an_unusable_address_leaves_no_thread() -> None:
    before = set(threading.enumerate())

    with pytest.raises(ValueError, match="targets"):
        RecommendationClient("")

    assert not _threads_of_clients() - before


def test_a_closed_client_is_unavailable(gateway: ScriptedGateway) -> None:
    client = RecommendationClient(gateway.address)
    client.close()

    with pytest.raises(Unavailable, match="the client is closed"):
        client.recommend()


def test_closing_answers_every_thread_that_waits(gateway: ScriptedGateway) -> None:
    gateway.default = gateway.hang
    client = RecommendationClient(gateway.address, default_timeout_s=PATIENCE_S)

    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(client.recommend) for _ in range(4)]
        _eventually(lambda: len(gateway.requests) == len(calls))
        client.close()

    assert {type(call.exception()) for call in calls} == {Unavailable}


def test_closing_ends_a_wait_for_a_gateway() -> None:
    client = RecommendationClient("127.0.0.1:1")

    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(client.wait_until_ready, PATIENCE_S)
        client.close()

    assert isinstance(wait.exception(), Unavailable)


def test_calls_go_on_when_one_of_two_gateways_is_killed() -> None:
    with _child_gateway("a") as a, _child_gateway("b") as b:
        addresses = [_address_of(a), _address_of(b)]
        with RecommendationClient(addresses, default_timeout_s=PATIENCE_S) as client:
            _eventually(lambda: client.recommend().bundle_version == "a")
            a.kill()
            a.wait()

            answers = [client.recommend().bundle_version for _ in range(20)]

    assert set(answers[-10:]) == {"b"}


def _child_gateway(name: str) -> "_Killed":
    return _Killed([sys.executable, "-m", "tests.integration.scripted_gateway", name])


class _Killed(subprocess.Popen[str]):
    """A child that is killed when its block ends."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command, stdout=subprocess.PIPE, text=True)

    def __exit__(self, *exc: object) -> None:
        self.kill()
        super().__exit__(None, None, None)


def _address_of(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _threads_of_clients() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if "ThreadPoolExecutor" not in t.name}


def _eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)
