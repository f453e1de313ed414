"""The failure policy, row by row: each failure provoked on a real leaf with two workers."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.gateway.v1 import gateway_pb2_grpc

from meshkit.bundles import Bundle
from services.gateway.adapters.leaf_call import FAILURES
from services.gateway.domain.failures import RULES, Again, Failure
from tests.integration.scripted_leaf import (
    ScriptedLeaf,
    Step,
    fail,
    garble,
    prefer_high_rows,
    propose,
)
from tests.integration.service_process import service
from tests.small_bundle import ITEM_IDS

CALLS = {Again.NO: 1, Again.RETRY: 2, Again.REQUEST: 2, Again.HEDGE: 1}
"""Calls that a leaf sees of one request that fails at once; nothing is hedged."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A gateway with one source and a ranker, two workers each."""

    source: tuple[ScriptedLeaf, ScriptedLeaf]
    ranker: tuple[ScriptedLeaf, ScriptedLeaf]
    stub: gateway_pb2_grpc.RecommendationServiceStub

    def recommend(self) -> pb.RecommendResponse:
        request = pb.RecommendRequest(
            seed_item_ids=[ITEM_IDS[0]], page_size=5, surface="batch", market="SE"
        )
        response: pb.RecommendResponse = self.stub.Recommend(request, timeout=20)
        return response


@pytest.fixture
def mesh(small_bundle: Bundle, tmp_path: Path) -> Iterator[Mesh]:
    with ExitStack() as running:

        def workers(step: Step) -> tuple[ScriptedLeaf, ScriptedLeaf]:
            one, two = (
                running.enter_context(ScriptedLeaf(step, small_bundle.version).serving())
                for _ in range(2)
            )
            return one, two

        source, ranker = workers(propose([10, 11, 12])), workers(prefer_high_rows)
        settings = {
            "RECMESH_SOURCES": f"ann={source[0].address};{source[1].address}",
            "RECMESH_RANKER": f"{ranker[0].address};{ranker[1].address}",
            "RECMESH_BUNDLES": str(small_bundle.path.parent),
            "RECMESH_CLOCK": "bundle",
            "RECMESH_HEDGING": "false",  # or a busy machine has a leaf called twice
        }
        gateway = running.enter_context(service(tmp_path, "gateway", **settings))
        channel = running.enter_context(grpc.insecure_channel(gateway.address))
        for leaf in (*source, *ranker):
            leaf.reset()  # the gateway warms its channels with requests of its own
        yield Mesh(source, ranker, gateway_pb2_grpc.RecommendationServiceStub(channel))


def steps() -> list[tuple[Failure, Step]]:
    by_code = [(failure, fail(code, "x")) for code, failure in FAILURES.items()]
    return [
        *by_code,
        (Failure.BROKEN, fail(grpc.StatusCode.INTERNAL, "x")),
        (Failure.BROKEN, garble),
    ]


def calls_of(workers: tuple[ScriptedLeaf, ScriptedLeaf]) -> int:
    return sum(len(worker.calls) for worker in workers)


def test_every_rule_gives_a_source_its_status_and_its_calls(mesh: Mesh) -> None:
    for failure, step in steps():
        for worker in mesh.source:
            worker.reset()
            worker.step = step

        response = mesh.recommend()

        rule = RULES[failure]
        (source,) = response.coverage.sources
        assert common_pb2.SourceStatus.Name(source.status).endswith(rule.status.name), failure
        assert calls_of(mesh.source) == CALLS[rule.again], failure
        assert len(response.items) == 5
        assert response.coverage.degraded
        assert response.coverage.tier == common_pb2.TIER_POPULARITY


def test_every_rule_leaves_merge_order_where_the_ranker_fails(mesh: Mesh) -> None:
    for failure, step in steps():
        for worker in mesh.ranker:
            worker.reset()
            worker.step = step

        response = mesh.recommend()

        assert response.coverage.ranked_by == pb.RANKED_BY_FALLBACK, failure
        assert calls_of(mesh.ranker) == CALLS[RULES[failure].again], failure
        assert [item.sources[0].rank for item in response.items[:3]] == [1, 2, 3]


def test_a_retry_goes_to_the_other_worker_and_the_answer_is_whole(mesh: Mesh) -> None:
    mesh.source[0].step = fail(grpc.StatusCode.UNAVAILABLE, "x")

    responses = [mesh.recommend() for _ in range(4)]

    assert not any(response.coverage.degraded for response in responses)
    assert len(mesh.source[0].calls) > 0
    assert len(mesh.source[1].calls) == 4


def test_a_caller_who_leaves_no_time_gets_popular_items_and_no_leaf_is_asked(mesh: Mesh) -> None:
    for workers in (mesh.source, mesh.ranker):
        for worker in workers:
            worker.reset()
    asking = mesh.stub.Recommend.future(pb.RecommendRequest(page_size=5), timeout=0.009)
    code = asking.code()  # waits for the end: in time or not, the machine decides

    assert code in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
    if code is grpc.StatusCode.OK:
        (source,) = asking.result().coverage.sources
        assert source.status == common_pb2.SOURCE_STATUS_TIMEOUT
        assert len(asking.result().items) == 5
    assert calls_of(mesh.source) + calls_of(mesh.ranker) == 0
