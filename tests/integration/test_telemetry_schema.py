"""Everything that a mesh emits is in the schema, and everything in the schema is emitted."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count, product
from typing import Any

import grpc
import pytest
from recmesh.candidates.v1 import candidates_pb2
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.ranker.v1 import ranker_pb2

from meshkit.bundles import Bundle
from tests.integration.scripted_leaf import Step, changed, fail, propose
from tests.integration.telemetry_mesh import (
    SLOW_S,
    Scripted,
    Stub,
    TelemetryMesh,
    damage_history,
    damage_trends,
    eventually,
    point_to_a_broken_bundle,
    sampled,
    telemetry_mesh,
)
from tests.small_bundle import ITEM_IDS, USER_IDS
from tests.telemetry_schema import Emitted, never_emitted, read_schema, unknown

TIMEOUT_S = 20.0
HURRIED_S = 0.5
SERVICES = 7
CODES = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.INTERNAL,
)
RECOMMEND = "recmesh.gateway.v1.RecommendationService/Recommend"


def ask(
    stub: Stub, *, is_sampled: bool = True, timeout_s: float = TIMEOUT_S, **fields: Any
) -> pb.RecommendResponse:
    request = pb.RecommendRequest(**{"page_size": 5, "surface": "batch", "market": "SE", **fields})
    response: pb.RecommendResponse = stub.Recommend(
        request, timeout=timeout_s, metadata=sampled(is_sampled)
    )
    return response


def read_news(mesh: TelemetryMesh) -> None:
    """Want segments, market by market and genre by genre, until one is read out of turn.

    One that is wanted just as a full read begins is read by that one: then the next is tried.
    """
    eventually(lambda: _reads(mesh))
    for market, row in product(("SE", "US"), range(0, len(ITEM_IDS), 10)):
        reads = len(_reads(mesh))
        history = common_pb2.History(rows=[row], ages_s=[60.0])
        request = candidates_pb2.GenerateRequest(
            bundle_version=mesh.bundle.version, limit=5, market=market, history=history
        )
        mesh.generate("trending", request, TIMEOUT_S)
        eventually(partial(_has_read, mesh, reads + 2))
        if False in _reads(mesh):
            return


def _has_read(mesh: TelemetryMesh, times: int) -> bool:
    return len(_reads(mesh)) >= times


def _reads(mesh: TelemetryMesh) -> list[bool]:
    """Return of every read of what trends that went well whether it was a full one."""
    return [
        span.attributes["recmesh.trending.is_full"]
        for span in list(mesh.receiver.emitted.spans)
        if span.name == "trending.refresh" and "error.type" not in span.attributes
    ]


def answer_well(mesh: TelemetryMesh) -> None:
    """Known listeners, strangers with and without seed items, short pages, full exclusions."""
    for user_id in USER_IDS[:3]:
        ask(mesh.whole, user_id=user_id)
        ask(mesh.whole, user_id=user_id, surface="home")
    ask(mesh.whole, user_id=USER_IDS[3], page_size=200)
    ask(mesh.whole, user_id=USER_IDS[4], exclude_item_ids=ITEM_IDS[:20])
    ask(mesh.whole, seed_item_ids=[ITEM_IDS[0]], market="US")
    for market in ("SE", "US", "DE", ""):
        ask(mesh.whole, market=market)
    empty = ask(mesh.whole, user_id=USER_IDS[0], exclude_item_ids=ITEM_IDS)
    assert not empty.items


def read_histories(mesh: TelemetryMesh) -> None:
    """Histories that are late, there, damaged, asked for twice at once, and one too many."""
    strangers = (f"stranger {number}" for number in count())
    eventually(lambda: _history(mesh, next(strangers)) == common_pb2.SOURCE_STATUS_TIMEOUT)
    for user_id in USER_IDS[:3]:
        eventually(partial(_has_history, mesh, user_id, common_pb2.SOURCE_STATUS_OK))
        ask(mesh.whole, user_id=user_id)
    damage_history(mesh.dynamodb.endpoint, "damaged")
    eventually(partial(_has_history, mesh, "damaged", common_pb2.SOURCE_STATUS_ERROR))

    def crowd() -> bool:
        asking = [next(strangers)] * 8 + [next(strangers) for _ in range(8)]
        with ThreadPoolExecutor(len(asking)) as pool:
            statuses = set(pool.map(partial(_history, mesh), asking))
        return common_pb2.SOURCE_STATUS_SHED in statuses and _has_shared_a_read(mesh)

    eventually(crowd)


def _history(mesh: TelemetryMesh, user_id: str) -> int:
    return ask(mesh.whole, user_id=user_id).coverage.history.status


def _has_history(mesh: TelemetryMesh, user_id: str, status: int) -> bool:
    return _history(mesh, user_id) == status


def _has_shared_a_read(mesh: TelemetryMesh) -> bool:
    return any(
        span.attributes.get("recmesh.history.lookup") == "shared"
        for span in list(mesh.receiver.emitted.spans)
    )


def refuse(mesh: TelemetryMesh) -> None:
    """Bad requests, methods that there are not, callers who do not wait."""
    with pytest.raises(grpc.RpcError):
        ask(mesh.whole, page_size=-1)
    with pytest.raises(grpc.RpcError):
        mesh.generate("similar", candidates_pb2.GenerateRequest(), TIMEOUT_S)
    with pytest.raises(grpc.RpcError):
        mesh.rank(ranker_pb2.RankRequest(), TIMEOUT_S)
    for number in range(50):
        for channel in mesh.channels.values():
            call: Any = channel.unary_unary(f"/evil.Service{number}/Method{number}")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=TIMEOUT_S)


def be_late(mesh: TelemetryMesh) -> None:
    """Ask with ever other deadlines until each service has found one that had passed."""
    version = mesh.bundle.version
    generate = candidates_pb2.GenerateRequest(bundle_version=version, limit=50)
    rank = ranker_pb2.RankRequest(bundle_version=version, rows=range(60))
    calls: dict[str, Callable[[float], Any]] = {
        "gateway": lambda timeout_s: ask(mesh.scripted.stub, timeout_s=timeout_s, is_sampled=False),
        "candidates-similar": lambda timeout_s: mesh.generate("similar", generate, timeout_s),
        "ranker": lambda timeout_s: mesh.rank(rank, timeout_s),
    }
    for service, call in calls.items():
        eventually(partial(_is_late, mesh, service, call))


def _is_late(mesh: TelemetryMesh, service: str, call: Callable[[float], Any]) -> bool:
    for timeout_ms in (0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 40):
        with suppress(grpc.RpcError):
            call(timeout_ms / 1e3)
    return any(
        span.kind == "SERVER" and span.service == service and "error.type" in span.attributes
        for span in list(mesh.receiver.emitted.spans)
    )


def filter_all(scripted: Scripted) -> None:
    """Sources that propose the whole catalogue to somebody who knows a part of it."""
    scripted.tell("ann", propose(range(len(ITEM_IDS))))
    ask(scripted.stub, user_id=USER_IDS[0], market="US", exclude_item_ids=ITEM_IDS[:50])
    scripted.reset()


def fail_in_every_way(scripted: Scripted) -> None:
    """Each failure of a source and of the ranker, in sampled traces and in others."""
    for code in CODES:
        for is_sampled in (True, False):
            scripted.reset()
            scripted.tell("ann", fail(code, "x"))
            scripted.ranker.step = fail(code, "x")
            ask(scripted.stub, seed_item_ids=[ITEM_IDS[0]], is_sampled=is_sampled)
    scripted.reset()
    scripted.tell("trending", changed(propose([14]), make_stale))
    ask(scripted.stub)
    scripted.switch_off("similar")
    eventually(lambda: _is_switched_off(scripted))
    scripted.switch_off()
    eventually(lambda: not _is_switched_off(scripted))


def _is_switched_off(scripted: Scripted) -> bool:
    statuses = [each.status for each in ask(scripted.stub).coverage.sources]
    return common_pb2.SOURCE_STATUS_DISABLED in statuses


def make_stale(response: Any) -> None:
    response.is_stale = True


def set_tier(response: Any, tier: int) -> None:
    response.tier = tier


def climb_down(scripted: Scripted) -> None:
    """A slate from every rung of the ladder."""
    scripted.reset()
    for source in ("ann", "similar", "next", "together"):
        scripted.tell(source, propose([]))
    for name in ("TRENDING_MARKET_GENRE", "TRENDING_MARKET", "TRENDING_GLOBAL"):
        tier = common_pb2.Tier.Value(f"TIER_{name}")
        scripted.tell("trending", changed(propose([14]), partial(set_tier, tier=tier)))
        eventually(partial(_stands_on, scripted, tier))
    scripted.tell("trending", propose([]))
    eventually(partial(_stands_on, scripted, common_pb2.TIER_POPULARITY))


def _stands_on(scripted: Scripted, tier: int) -> bool:
    return ask(scripted.stub).coverage.tier == tier


def hedge(scripted: Scripted) -> None:
    """Enough quick answers to know what is slow, then one worker that does not answer."""
    scripted.reset()
    for _ in range(40):
        ask(scripted.stub, is_sampled=False)
    scripted.sources["ann"][0].step = scripted.sources["ann"][0].hang
    eventually(lambda: any(each.hedged for each in ask(scripted.stub).coverage.sources))
    scripted.reset()


def be_slow(scripted: Scripted) -> None:
    """Whole answers that take long enough for their traces to be kept."""

    def slowly(step: Step) -> Step:
        def waiting(request: Any, context: grpc.ServicerContext) -> Any:
            time.sleep(SLOW_S)
            return step(request, context)

        return waiting

    scripted.reset()
    scripted.ranker.step = slowly(scripted.ranker.default)

    def is_whole() -> bool:
        slow = ask(scripted.stub, seed_item_ids=[ITEM_IDS[0]], is_sampled=False)
        return not slow.coverage.degraded

    eventually(is_whole)
    scripted.reset()


def shed(scripted: Scripted) -> None:
    """More hurried calls at once than there are places."""
    scripted.reset()
    for worker in scripted.sources["ann"]:
        worker.step = worker.hang

    def hurry(_: int) -> grpc.StatusCode:
        try:
            ask(scripted.stub, timeout_s=HURRIED_S)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    def is_shed() -> bool:
        with ThreadPoolExecutor(64) as pool:
            return grpc.StatusCode.RESOURCE_EXHAUSTED in list(pool.map(hurry, range(64)))

    eventually(is_shed)
    scripted.reset()


def be_retried(mesh: TelemetryMesh) -> None:
    """A caller whose first worker does not know the method tries the other one."""
    away = mesh.scripted.ranker.address.removeprefix("127.0.0.1:")
    gateway = mesh.scripted.address.removeprefix("127.0.0.1:")
    policy = {
        "maxAttempts": 2,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNIMPLEMENTED"],
    }
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{}], "retryPolicy": policy}],
    }
    target = f"ipv4:127.0.0.1:{away},127.0.0.1:{gateway}"
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(target, options=options) as channel:
        eventually(lambda: ask(Stub(channel)) and _is_retried(mesh, "gateway"))
    for leaf in ("candidates-similar", "ranker"):
        eventually(partial(_ask_until_retried, mesh, leaf))


def _ask_until_retried(mesh: TelemetryMesh, leaf: str) -> bool:
    ask(mesh.whole, user_id=USER_IDS[0])
    return _is_retried(mesh, leaf)


def _is_retried(mesh: TelemetryMesh, service: str) -> bool:
    return any(
        span.service == service and "recmesh.previous_attempts" in span.attributes
        for span in list(mesh.receiver.emitted.spans)
    )


def lose_spans(mesh: TelemetryMesh) -> None:
    """A receiver that keeps its senders waiting, then one that refuses."""
    with mesh.receiver.holding_spans():
        for _ in range(10):
            ask(mesh.whole)
    with mesh.receiver.refusing_spans():
        ask(mesh.whole)
        eventually(lambda: mesh.receiver.refused)


def refuse_a_bundle(mesh: TelemetryMesh) -> None:
    """Let every service find a bundle that cannot be loaded."""
    point_to_a_broken_bundle(mesh.bundle)

    def refusing() -> set[str]:
        return {
            point.service
            for point in list(mesh.receiver.emitted.points)
            if point.name == "recmesh.bundle.refused" and point.is_reached
        }

    eventually(lambda: len(refusing()) == SERVICES)


def lose_dynamodb(mesh: TelemetryMesh) -> None:
    """A row that cannot be read, then no DynamoDB at all."""

    def failed(name: str) -> bool:
        spans = list(mesh.receiver.emitted.spans)
        return any(span.name == name and "error.type" in span.attributes for span in spans)

    damage_trends(mesh.dynamodb.endpoint)
    eventually(lambda: failed("trending.read_top"))
    mesh.dynamodb.stop()
    eventually(lambda: failed("trending.refresh") and failed("trending.read_segments"))


@pytest.fixture(scope="module")
def emitted(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emitted]:
    """What a mesh emits that is asked for everything, and told to stop."""
    with telemetry_mesh(small_bundle, tmp_path_factory.mktemp("telemetry")) as mesh:
        read_news(mesh)
        read_histories(mesh)
        answer_well(mesh)
        mesh.rank_without_forest(TIMEOUT_S)
        refuse(mesh)
        be_late(mesh)
        filter_all(mesh.scripted)
        fail_in_every_way(mesh.scripted)
        climb_down(mesh.scripted)
        hedge(mesh.scripted)
        be_slow(mesh.scripted)
        shed(mesh.scripted)
        be_retried(mesh)
        lose_spans(mesh)
        refuse_a_bundle(mesh)
        lose_dynamodb(mesh)
        mesh.stop()
        yield mesh.receiver.emitted


def test_everything_emitted_is_in_the_schema(emitted: Emitted) -> None:
    assert unknown(read_schema(), emitted) == set()


def test_everything_in_the_schema_is_emitted(emitted: Emitted) -> None:
    assert never_emitted(read_schema(), emitted) == set()


def test_exemplars_lead_from_a_latency_to_a_trace(emitted: Emitted) -> None:
    received = {span.trace_id for span in emitted.spans}
    of_answers = {
        trace_id
        for point in emitted.points
        if point.name == "rpc.server.call.duration" and point.service == "gateway"
        for trace_id in point.exemplars
    }

    assert of_answers & received


def test_no_user_and_no_item_is_named(emitted: Emitted) -> None:
    values = {
        str(value)
        for span in emitted.spans
        for attributes in (span.attributes, *(event.attributes for event in span.events))
        for value in attributes.values()
    }

    named = {one for one in (*USER_IDS, *ITEM_IDS) for value in values if one in value}
    assert named == set()


def test_a_renamed_attribute_fails_both_ways(emitted: Emitted) -> None:
    schema = read_schema()
    renamed = json.loads(json.dumps(schema).replace('"recmesh.tier"', '"recmesh.rung"'))

    assert f"span SERVER {RECOMMEND}: attribute recmesh.tier" in unknown(renamed, emitted)
    assert f"span SERVER {RECOMMEND}: attribute recmesh.rung" in never_emitted(renamed, emitted)
    assert "metric recmesh.answers: attribute recmesh.tier" in unknown(renamed, emitted)
    assert "metric recmesh.answers: attribute recmesh.rung" in never_emitted(renamed, emitted)
