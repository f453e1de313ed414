"""Two real gateways before the same real leaves: one reads histories of DynamoDB, which fails."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.gateway.v1 import gateway_pb2_grpc

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshctl.faults import Fault, FaultKind, FaultLevel
from meshctl.prepare import prepare_dynamodb
from meshkit.bundles import Bundle
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, bulk_client
from services.gateway.adapters.history_table import (
    PACKED,
    HistoryTable,
    create_history_table,
    user_attribute,
)
from services.gateway.domain.failures import RULES, Failure
from services.gateway.domain.values import SourceStatus
from signals.keys import item_key
from tests.integration.fault_proxies import FaultProxy, fault_proxy
from tests.integration.meshkit_children import DEADLINE_S, wait_until
from tests.integration.service_process import started_service
from tests.small_bundle import ITEM_IDS, USER_IDS

TABLE = HistoryTable(DEFAULT_TABLE_PREFIX)
LISTENER = USER_IDS[4]
PAGE_SIZE = 10
LEAVES = {
    "similar": ("candidates", {"RECMESH_SOURCE": "similar"}),
    "ranker": ("ranker", {}),
}

Stub = gateway_pb2_grpc.RecommendationServiceStub


@dataclass(frozen=True, slots=True)
class World:
    """Who answers, and what may go wrong."""

    of_bundle: Stub
    of_dynamodb: Stub
    proxy: FaultProxy
    client: Any
    """Of the engine itself, past the proxy."""


@pytest.fixture(scope="module")
def whole_world(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("history")
    store = small_bundle.path.parent
    with ExitStack() as running:
        engine = running.enter_context(EmbeddedDynamodb())
        proxy = running.enter_context(fault_proxy(directory, FaultLevel.DYNAMODB, engine.address))
        prepare_dynamodb(
            engine.endpoint, bundles=store, version=small_bundle.version, with_histories=True
        )
        channels = _start(directory, store, f"http://{proxy.address}", running)
        yield World(
            of_bundle=Stub(channels["bundle"]),
            of_dynamodb=Stub(channels["dynamodb"]),
            proxy=proxy,
            client=bulk_client(engine.endpoint),
        )


def _start(
    directory: Path, store: Path, dynamodb: str, running: ExitStack
) -> dict[str, grpc.Channel]:
    """Start the leaves and a gateway for each place of histories; return channels to these."""
    common = {
        "RECMESH_BUNDLES": str(store),
        "RECMESH_CLOCK": "bundle",
        "RECMESH_VERIFIER": "none",
    }
    children, addresses = {}, {}

    def start(name: str, service: str, **settings: str) -> None:
        folder = directory / name
        folder.mkdir()
        children[name], addresses[name] = running.enter_context(
            started_service(folder, service, **common, **settings)
        )

    for name, (service, settings) in LEAVES.items():
        start(name, service, **settings)
    of_gateways = {
        "RECMESH_SOURCES": f"similar={addresses['similar']}",
        "RECMESH_RANKER": addresses["ranker"],
        # Time for a busy machine: what is asked for is who gives up, not when.
        "RECMESH_HISTORY_TIMEOUT_S": "5",
        "RECMESH_HISTORY_READ_TIMEOUT_S": "20",
        "RECMESH_HISTORY_CACHE_S": "0",
        "RECMESH_HISTORY_THREADS": "2",
        "RECMESH_HISTORY_WAITING": "2",
        "RECMESH_DYNAMODB_ENDPOINT": dynamodb,
    }
    for history in ("bundle", "dynamodb"):
        start(history, "gateway", RECMESH_HISTORY=history, **of_gateways)
    for child in children.values():
        child.wait_until_serving()
    return {
        history: running.enter_context(grpc.insecure_channel(addresses[history]))
        for history in ("bundle", "dynamodb")
    }


@pytest.fixture
def world(whole_world: World) -> Iterator[World]:
    """The world, with histories that can be read, now and afterwards."""
    _mend(whole_world)
    key = user_attribute(item_key(LISTENER))
    item = whole_world.client.get_item(TableName=TABLE.name, Key=key)["Item"]
    yield whole_world
    whole_world.proxy.control.clear()
    whole_world.proxy.control.wait_applied()
    whole_world.client.put_item(TableName=TABLE.name, Item=item)
    _mend(whole_world)


def _mend(world: World) -> None:
    wait_until(lambda: status(ask(world.of_dynamodb, USER_IDS[7])) == "OK")


def ask(stub: Stub, user_id: str = LISTENER, **fields: Any) -> pb.RecommendResponse:
    wanted = {"surface": "batch", "page_size": PAGE_SIZE, **fields}
    request = pb.RecommendRequest(user_id=user_id, **wanted)
    response: pb.RecommendResponse = stub.Recommend(request, timeout=DEADLINE_S)
    return response


def ask_whole(stub: Stub, user_id: str) -> pb.RecommendResponse:
    """Ask until no part was late, which on a busy machine any may be."""
    answers = [ask(stub, user_id)]

    def is_whole() -> bool:
        answers.append(ask(stub, user_id))
        return not answers[-1].coverage.degraded

    wait_until(is_whole)
    return answers[-1]


def ask_until(stub: Stub, wanted: str) -> pb.RecommendResponse:
    """Ask for somebody who just played something until the history has a status."""
    answers: list[pb.RecommendResponse] = []

    def is_so() -> bool:
        answers.append(ask(stub, seed_item_ids=[ITEM_IDS[0]]))
        return status(answers[-1]) == wanted

    wait_until(is_so)
    return answers[-1]


def status(response: pb.RecommendResponse) -> str:
    name: str = common_pb2.SourceStatus.Name(response.coverage.history.status)
    return name.removeprefix("SOURCE_STATUS_")


def test_the_slate_is_the_same_wherever_the_history_is(world: World) -> None:
    for user_id in (*USER_IDS[:5], "never seen"):
        of_bundle, of_dynamodb = (
            ask_whole(stub, user_id) for stub in (world.of_bundle, world.of_dynamodb)
        )

        assert list(of_dynamodb.items) == list(of_bundle.items)
        assert of_dynamodb.coverage.tier == of_bundle.coverage.tier
        assert of_dynamodb.coverage.ranked_by == of_bundle.coverage.ranked_by


def test_coverage_says_how_the_history_was_come_by(world: World) -> None:
    read = ask_whole(world.of_dynamodb, LISTENER).coverage.history
    of_bundle = ask_whole(world.of_bundle, LISTENER).coverage.history
    anonymous = ask_whole(world.of_dynamodb, "").coverage.history

    assert {each.status for each in (read, of_bundle, anonymous)} == {common_pb2.SOURCE_STATUS_OK}
    assert read.HasField("latency")
    assert not of_bundle.HasField("latency")
    assert not anonymous.HasField("latency")


def hang(world: World) -> None:
    world.proxy.control.set(Fault(FaultKind.HANG))
    world.proxy.control.wait_applied()


def fail(world: World) -> None:
    world.proxy.control.set(Fault(FaultKind.ERRORS))
    world.proxy.control.wait_applied()


def throttle(world: World) -> None:
    world.proxy.control.set(Fault(FaultKind.THROTTLE))
    world.proxy.control.wait_applied()


def damage(world: World) -> None:
    item = {**user_attribute(item_key(LISTENER)), PACKED: {"B": b"rmh1 and nothing sensible"}}
    world.client.put_item(TableName=TABLE.name, Item=item)


@pytest.mark.parametrize(
    ("failure", "provoke"),
    [
        (Failure.LATE, hang),
        (Failure.UNAVAILABLE, fail),
        (Failure.FULL, throttle),
        (Failure.BROKEN, damage),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_every_rule_gives_the_history_its_status_and_the_answer_goes_on_without(
    world: World, failure: Failure, provoke: Callable[[World], None]
) -> None:
    provoke(world)

    response = ask_until(world.of_dynamodb, RULES[failure].status.name)

    assert response.coverage.degraded
    assert len(response.items) == PAGE_SIZE
    assert response.coverage.history.HasField("latency")
    assert response.coverage.tier >= common_pb2.TIER_RECENT_ITEMS


def test_home_is_answered_in_its_time_though_dynamodb_hangs(world: World) -> None:
    hang(world)

    response = ask(world.of_dynamodb, surface="home")

    assert status(response) in ("TIMEOUT", "SHED")
    assert len(response.items) == PAGE_SIZE
    # A fifth of its 150 ms; a machine that stalls may see it later, but asked for no more.
    assert response.coverage.degraded


def test_more_reads_than_there_is_room_for_are_shed_at_once(world: World) -> None:
    hang(world)

    def statuses() -> set[str]:
        with ThreadPoolExecutor(12) as pool:
            answers = pool.map(lambda user_id: ask(world.of_dynamodb, user_id), USER_IDS[:12])
            return {status(answer) for answer in answers}

    wait_until(lambda: SourceStatus.SHED.name in statuses())


def test_a_table_that_is_gone_and_comes_back_needs_no_restart(
    world: World, small_bundle: Bundle
) -> None:
    world.client.delete_table(TableName=TABLE.name)

    gone = RULES[Failure.REFUSED].status.name
    wait_until(lambda: status(ask(world.of_dynamodb)) == gone)
    create_history_table(world.client, TABLE)

    wait_until(lambda: status(ask(world.of_dynamodb)) == "OK")
    prepare_dynamodb(
        world.client.meta.endpoint_url,
        bundles=small_bundle.path.parent,
        version=small_bundle.version,
        with_histories=True,
    )
