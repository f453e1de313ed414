"""A real gateway process in front of leaves that do what they should not."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.gateway.v1 import gateway_pb2_grpc

from meshkit.bundles import Bundle
from signals.bundle import Histories, ItemTexts
from signals.keys import item_key
from tests.integration.meshkit_children import DEADLINE_S, free_port, wait_until
from tests.integration.scripted_leaf import (
    ScriptedLeaf,
    Step,
    blow_up,
    changed,
    fail,
    garble,
    prefer_high_rows,
    propose,
)
from tests.integration.service_process import service, violations
from tests.small_bundle import ITEM_IDS, ONLY_IN_SE_ID, USER_IDS

PROPOSED = {"ann": [10, 11, 12], "similar": [12, 20, 21], "trending": [30, 31, 32]}
HELD_UP_S = 0.5
"""No leaf here takes so long that is not told to."""
SECRET = "postgres://admin:hunter2@10.0.0.7"  # noqa: S105  stands for what must not get out
WIRE_ROUNDING_S = 0.02  # gRPC sends a timeout beyond 1 s rounded up to 10 ms
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@dataclass(frozen=True, slots=True)
class Mesh:
    """A gateway, its leaves, and a caller's channel to it."""

    bundle: Bundle
    sources: dict[str, ScriptedLeaf]
    ranker: ScriptedLeaf
    control_file: Path
    channel: grpc.Channel

    @property
    def leaves(self) -> list[ScriptedLeaf]:
        return [*self.sources.values(), self.ranker]

    def call(self, request: pb.RecommendRequest, **settings: Any) -> Any:
        """Call without waiting for the answer."""
        stub = gateway_pb2_grpc.RecommendationServiceStub(self.channel)
        return stub.Recommend.future(request, **{"timeout": DEADLINE_S, **settings})

    def recommend(self, request: pb.RecommendRequest, **settings: Any) -> pb.RecommendResponse:
        """Ask; ask anew where the machine stood still, and a leaf was late that does not hang."""
        steps = [leaf.step for leaf in self.leaves]
        response: pb.RecommendResponse = self.call(request, **settings).result()
        for _ in range(4):
            if not self._is_held_up(response.coverage):
                break
            for leaf, step in zip(self.leaves, steps, strict=True):
                leaf.calls, leaf.step = [], step
            response = self.call(request, **settings).result()
        return response

    def _is_held_up(self, coverage: pb.Coverage) -> bool:
        latencies = {each.source: each.latency for each in coverage.sources}
        latencies["ranker"] = coverage.ranker_latency
        leaves = {**self.sources, "ranker": self.ranker}
        return any(
            latency.ToTimedelta().total_seconds() > HELD_UP_S
            and leaves[name].step != leaves[name].hang
            for name, latency in latencies.items()
        )

    def refusal(self, request: pb.RecommendRequest) -> Any:
        with pytest.raises(grpc.RpcError) as refused:
            self.recommend(request)
        return refused.value

    def rows(self, response: pb.RecommendResponse) -> list[int]:
        texts = ItemTexts.open(self.bundle.path)
        row_of = {texts.item_id(row): row for row in range(len(ITEM_IDS))}
        return [row_of[item.item_id] for item in response.items]


@pytest.fixture(scope="module")
def whole_mesh(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("gateway")
    control_file = directory / "control.json"
    with ExitStack() as running:
        leaves = {
            name: running.enter_context(ScriptedLeaf(propose(rows), small_bundle.version).serving())
            for name, rows in PROPOSED.items()
        }
        ranker = running.enter_context(
            ScriptedLeaf(prefer_high_rows, small_bundle.version).serving()
        )
        settings = {
            "RECMESH_SOURCES": ",".join(f"{name}={leaf.address}" for name, leaf in leaves.items()),
            "RECMESH_RANKER": ranker.address,
            "RECMESH_BUNDLES": str(small_bundle.path.parent),
            "RECMESH_CLOCK": "bundle",
            "RECMESH_CONTROL_FILE": str(control_file),
        }
        gateway = running.enter_context(service(directory, "gateway", **settings))
        channel = running.enter_context(grpc.insecure_channel(gateway.address))
        yield Mesh(small_bundle, leaves, ranker, control_file, channel)


@pytest.fixture
def mesh(whole_mesh: Mesh) -> Iterator[Mesh]:
    """The mesh, with every leaf at its best."""
    for leaf in whole_mesh.leaves:
        leaf.reset()
    yield whole_mesh
    for leaf in whole_mesh.leaves:
        leaf.reset()


def request_of(**fields: Any) -> pb.RecommendRequest:
    """Ask for somebody whose last play is known, with time for a busy machine."""
    usual = {"seed_item_ids": [ITEM_IDS[0]], "surface": "batch", "page_size": 6}
    return pb.RecommendRequest(**{**usual, **fields})


def statuses(response: pb.RecommendResponse) -> dict[str, str]:
    return {
        each.source: common_pb2.SourceStatus.Name(each.status).removeprefix("SOURCE_STATUS_")
        for each in response.coverage.sources
    }


def test_sources_of_a_bundle_that_are_not_asked_are_said_in_the_log(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    settings = {
        "RECMESH_SOURCES": f"similar={nobody},mine={nobody}",
        "RECMESH_RANKER": nobody,
        "RECMESH_BUNDLES": str(small_bundle.path.parent),
        "RECMESH_BUNDLE_VERSION": small_bundle.version,
    }
    unasked = [name for name in small_bundle.manifest.facts["sources"] if name != "similar"]

    with service(tmp_path, "gateway", **settings) as child:
        log = child.errors.read_text()

    told = f"{small_bundle.version} was trained on sources that RECMESH_SOURCES does not name:"
    assert unasked
    assert re.findall(rf"{told} (.*)", log) == [", ".join(unasked)]


def test_a_good_answer_is_the_rankers_order_with_provenance(mesh: Mesh) -> None:
    response = mesh.recommend(request_of(page_size=3))

    assert mesh.rows(response) == [32, 31, 30]
    assert [item.score for item in response.items] == [32, 31, 30]
    assert response.items[0].sources == [pb.Provenance(source="trending", rank=3, score=1)]
    assert response.bundle_version == mesh.bundle.version
    assert response.coverage.ranked_by == pb.RANKED_BY_MODEL
    assert response.coverage.HasField("ranker_latency")
    assert statuses(response) == {"ann": "OK", "similar": "OK", "trending": "OK"}
    assert [each.candidates for each in response.coverage.sources] == [3, 3, 3]
    assert not response.coverage.degraded


def test_an_item_of_two_sources_names_both_in_source_order(mesh: Mesh) -> None:
    response = mesh.recommend(request_of(page_size=20))

    item = response.items[mesh.rows(response).index(12)]
    assert [(each.source, each.rank) for each in item.sources] == [("ann", 3), ("similar", 1)]


def _set(field: str, value: Any) -> Step:
    return changed(propose([10, 11]), lambda response: setattr(response, field, value))


def _aged(seconds: int, *, is_stale: bool = False) -> Step:
    def change(response: Any) -> None:
        response.data_age.seconds = seconds
        response.is_stale = is_stale

    return changed(propose([10, 11]), change)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        pytest.param(fail(grpc.StatusCode.INTERNAL, SECRET), "ERROR", id="internal"),
        pytest.param(fail(grpc.StatusCode.UNAVAILABLE, SECRET), "ERROR", id="unavailable"),
        pytest.param(fail(grpc.StatusCode.FAILED_PRECONDITION, "x"), "ERROR", id="not held"),
        pytest.param(fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "x"), "SHED", id="shed"),
        pytest.param(fail(grpc.StatusCode.DEADLINE_EXCEEDED, "x"), "TIMEOUT", id="late"),
        pytest.param(blow_up(SECRET), "ERROR", id="exception"),
        pytest.param(propose([10, 60]), "ERROR", id="row beyond the bundle"),
        pytest.param(propose([2**32 - 1]), "ERROR", id="row beyond all bundles"),
        pytest.param(_set("bundle_version", "another"), "ERROR", id="wrong version"),
        pytest.param(_set("bundle_version", ""), "ERROR", id="no version"),
        pytest.param(
            changed(propose([10, 11]), lambda r: r.scores.__setitem__(0, float("nan"))),
            "ERROR",
            id="NaN score",
        ),
        pytest.param(
            changed(propose([10, 11]), lambda r: r.scores.__setitem__(0, float("inf"))),
            "ERROR",
            id="infinite score",
        ),
        pytest.param(
            changed(propose([10, 11]), lambda r: r.scores.append(1.0)), "ERROR", id="more scores"
        ),
        pytest.param(
            changed(propose([10, 11]), lambda r: r.scores.pop()), "ERROR", id="fewer scores"
        ),
        pytest.param(garble, "ERROR", id="no message"),
        pytest.param(_aged(10**18), "ERROR", id="older than time"),
        pytest.param(_aged(-5), "ERROR", id="from the future"),
        pytest.param(_aged(90, is_stale=True), "STALE", id="stale"),
    ],
)
def test_a_source_that_fails_leaves_an_answer_and_is_named(
    mesh: Mesh, step: Step, status: str
) -> None:
    mesh.sources["ann"].step = step

    response = mesh.recommend(request_of(page_size=5))

    assert len(response.items) == 5
    assert statuses(response) == {"ann": status, "similar": "OK", "trending": "OK"}
    assert response.coverage.degraded
    assert {12, 20, 30} <= set(mesh.rows(mesh.recommend(request_of(page_size=20))))


def test_a_source_that_hangs_is_a_timeout_and_the_answer_comes_without_it(mesh: Mesh) -> None:
    mesh.sources["similar"].step = mesh.sources["similar"].hang

    response = mesh.recommend(request_of(page_size=5))

    assert statuses(response) == {"ann": "OK", "similar": "TIMEOUT", "trending": "OK"}
    assert response.coverage.sources[1].candidates == 0
    assert response.coverage.sources[1].HasField("latency")
    assert len(response.items) == 5
    assert response.coverage.degraded


@pytest.mark.parametrize("leaf", ["ann", "ranker"])
def test_a_request_whose_version_a_leaf_no_longer_holds_is_made_again_whole(
    mesh: Mesh, leaf: str
) -> None:
    moved = mesh.ranker if leaf == "ranker" else mesh.sources[leaf]

    def refuse_once(request: Any, context: grpc.ServicerContext) -> Any:
        moved.step = moved.default
        return fail(grpc.StatusCode.FAILED_PRECONDITION, "not held")(request, context)

    moved.step = refuse_once
    response = mesh.recommend(request_of(page_size=3))

    assert not response.coverage.degraded
    assert mesh.rows(response) == [32, 31, 30]
    assert [len(each.calls) for each in mesh.sources.values()] == [2, 2, 2]


def test_a_request_is_made_again_once_only(mesh: Mesh) -> None:
    mesh.ranker.step = fail(grpc.StatusCode.FAILED_PRECONDITION, "not held")

    response = mesh.recommend(request_of(page_size=3))

    assert response.coverage.degraded
    assert len(mesh.ranker.calls) == 2


def test_a_source_that_answers_beyond_the_limit_is_cut_there(mesh: Mesh) -> None:
    mesh.sources["ann"].step = propose([10, 11, 12] * 500)

    response = mesh.recommend(request_of())

    assert statuses(response)["ann"] == "OK"
    assert response.coverage.sources[0].candidates == mesh.sources["ann"].calls[0].request.limit
    assert len(set(mesh.rows(response))) == 6


def test_a_source_with_nothing_to_offer_is_ok(mesh: Mesh) -> None:
    mesh.sources["ann"].step = propose([])

    response = mesh.recommend(request_of())

    assert statuses(response)["ann"] == "OK"
    assert not response.coverage.degraded


def test_data_ages_are_passed_on_where_there_are_any(mesh: Mesh) -> None:
    mesh.sources["ann"].step = _aged(90)

    ann, similar, _ = mesh.recommend(request_of()).coverage.sources

    assert ann.data_age.ToSeconds() == 90
    assert not similar.HasField("data_age")


def _scored(change: Any) -> Step:
    return changed(prefer_high_rows, change)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(fail(grpc.StatusCode.INTERNAL, SECRET), id="internal"),
        pytest.param(fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "x"), id="shed"),
        pytest.param(blow_up(SECRET), id="exception"),
        pytest.param(_scored(lambda r: r.scores.__setitem__(0, float("nan"))), id="NaN score"),
        pytest.param(garble, id="no message"),
        pytest.param(_scored(lambda r: r.scores.pop()), id="fewer scores"),
        pytest.param(_scored(lambda r: r.scores.append(1.0)), id="more scores"),
        pytest.param(_scored(lambda r: r.scores.__delitem__(slice(None))), id="no scores"),
        pytest.param(
            _scored(lambda r: setattr(r, "bundle_version", "another")), id="wrong version"
        ),
    ],
)
def test_a_ranker_that_fails_leaves_merge_order_and_a_degraded_answer(
    mesh: Mesh, step: Step
) -> None:
    mesh.ranker.step = step

    response = mesh.recommend(request_of(page_size=3))

    assert mesh.rows(response) == [12, 10, 30]
    assert response.coverage.ranked_by == pb.RANKED_BY_FALLBACK
    assert response.coverage.degraded


def test_a_ranker_that_hangs_leaves_a_full_page_in_the_surfaces_time(mesh: Mesh) -> None:
    mesh.ranker.step = mesh.ranker.hang

    response = mesh.recommend(request_of(surface="home"))

    assert len(response.items) == 6
    assert response.coverage.ranked_by == pb.RANKED_BY_FALLBACK
    assert response.coverage.degraded


def test_with_every_leaf_down_the_page_is_filled_from_popularity(mesh: Mesh) -> None:
    for leaf in mesh.leaves:
        leaf.step = fail(grpc.StatusCode.UNAVAILABLE, SECRET)

    response = mesh.recommend(request_of(page_size=10))

    assert len(response.items) == response.coverage.filled_from_popularity == 10
    assert not any(item.sources for item in response.items)
    assert set(statuses(response).values()) == {"ERROR"}


def test_no_text_of_a_leafs_failure_reaches_the_caller(mesh: Mesh) -> None:
    for leaf in mesh.leaves:
        leaf.step = blow_up(SECRET)

    call = mesh.call(request_of())

    assert SECRET.encode() not in call.result().SerializeToString()
    assert SECRET not in str(call.trailing_metadata())
    assert SECRET not in str(call.initial_metadata())


@pytest.mark.parametrize("timeout_s", [3.0, None])
def test_every_leaf_call_carries_a_deadline_within_the_callers(
    mesh: Mesh, timeout_s: float | None
) -> None:
    mesh.recommend(request_of(), timeout=timeout_s)

    longest_s = timeout_s or 5.0  # what surface "batch" allows
    (ranker_call,) = mesh.ranker.calls
    assert 0 < ranker_call.remaining_s < longest_s + WIRE_ROUNDING_S
    for source in mesh.sources.values():
        (call,) = source.calls
        assert 0 < call.remaining_s < min(1.0, longest_s * 0.6) + WIRE_ROUNDING_S


def test_every_leaf_is_asked_for_the_pinned_bundle(mesh: Mesh) -> None:
    mesh.recommend(request_of(market="SE", exclude_item_ids=[ITEM_IDS[5]]))

    for leaf in mesh.leaves:
        request = leaf.calls[0].request
        assert request.bundle_version == mesh.bundle.version
        assert request.market == "SE"
        assert len(request.history.rows) == len(request.history.ages_s) == 1
        assert request.history.seen_filter
    assert all(len(s.calls[0].request.exclude_rows) == 1 for s in mesh.sources.values())


def test_the_ranker_hears_every_sources_word_beside_the_rows(mesh: Mesh) -> None:
    mesh.recommend(request_of())

    request = mesh.ranker.calls[0].request
    assert sorted(request.rows) == [10, 11, 12, 20, 21, 30, 31, 32]
    said = {
        each.source: {row: rank for row, rank in zip(request.rows, each.ranks, strict=True) if rank}
        for each in request.sources
    }
    assert said == {
        name: {row: rank for rank, row in enumerate(rows, start=1)}
        for name, rows in PROPOSED.items()
    }


def test_a_known_users_plays_reach_every_leaf_and_stay_off_the_slate(mesh: Mesh) -> None:
    user_id = USER_IDS[4]
    stored, _ = Histories.open(mesh.bundle.path).of(item_key(user_id))

    response = mesh.recommend(request_of(user_id=user_id, seed_item_ids=[], page_size=30))

    for leaf in mesh.leaves:
        assert list(leaf.calls[0].request.history.rows) == stored.tolist()[::-1]
    assert not set(mesh.rows(response)) & set(stored.tolist())
    assert len(response.items) == 30


def test_an_unknown_user_is_no_error(mesh: Mesh) -> None:
    response = mesh.recommend(request_of(user_id="never seen", seed_item_ids=[]))

    assert len(response.items) == 6
    assert response.coverage.ranked_by == pb.RANKED_BY_FALLBACK
    assert not response.coverage.HasField("ranker_latency")
    assert not response.coverage.degraded
    assert mesh.ranker.calls == []


def test_a_page_size_of_0_means_20(mesh: Mesh) -> None:
    assert len(mesh.recommend(request_of(page_size=0)).items) == 20


def test_a_page_beyond_the_catalogue_is_short_and_degraded(mesh: Mesh) -> None:
    response = mesh.recommend(request_of(page_size=200))

    assert 0 < len(response.items) < len(ITEM_IDS)
    assert response.coverage.degraded


@pytest.mark.parametrize(("market", "is_shown"), [("SE", True), ("", True), ("US", False)])
def test_an_item_is_answered_where_it_may_be_shown(mesh: Mesh, market: str, is_shown: bool) -> None:
    response = mesh.recommend(request_of(market=market, page_size=200))

    assert (ONLY_IN_SE_ID in [item.item_id for item in response.items]) == is_shown


def test_unknown_ids_are_ignored_and_counted(mesh: Mesh) -> None:
    fields = {"seed_item_ids": ["?", ITEM_IDS[0]], "exclude_item_ids": ["!", ITEM_IDS[5]]}
    response = mesh.recommend(request_of(page_size=200, **fields))

    assert response.coverage.ignored_item_ids == 2
    assert not {ITEM_IDS[0], ITEM_IDS[5]} & {item.item_id for item in response.items}


LONG = "x" * 257


@pytest.mark.parametrize(
    ("fields", "field", "limit"),
    [
        ({"user_id": LONG}, "user_id", "at most 256"),
        ({"user_id": "é" * 129}, "user_id", "has 258 bytes; at most 256"),
        ({"page_size": -1}, "page_size", "is -1; 0 (which means 20) to 200"),
        ({"page_size": 201}, "page_size", "to 200"),
        ({"surface": "fridge"}, "surface", "allowed are home, batch"),
        ({"market": "se"}, "market", "two upper-case letters"),
        ({"market": "SWE"}, "market", "two upper-case letters"),
        ({"market": "S1"}, "market", "two upper-case letters"),
        ({"market": "SE\n"}, "market", "two upper-case letters"),
        ({"seed_item_ids": ["a"] * 51}, "seed_item_ids", "at most 50"),
        ({"seed_item_ids": ["a", ""]}, "seed_item_ids[1]", "1 to 256"),
        ({"seed_item_ids": [LONG]}, "seed_item_ids[0]", "1 to 256"),
        ({"exclude_item_ids": ["a"] * 1001}, "exclude_item_ids", "at most 1000"),
        ({"exclude_item_ids": ["a", "b", ""]}, "exclude_item_ids[2]", "1 to 256"),
        ({"exclude_item_ids": [LONG]}, "exclude_item_ids[0]", "1 to 256"),
    ],
)
def test_a_field_outside_its_limit_is_refused_by_name_and_nobody_is_asked(
    mesh: Mesh, fields: dict[str, Any], field: str, limit: str
) -> None:
    error = mesh.refusal(request_of(**fields))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(error)) == [field]
    assert limit in violations(error)[field]
    assert not any(leaf.calls for leaf in mesh.leaves)


def test_every_field_at_fault_is_named_at_once(mesh: Mesh) -> None:
    error = mesh.refusal(request_of(page_size=-1, surface="fridge", market="?"))

    assert set(violations(error)) == {"page_size", "surface", "market"}


def test_a_request_at_every_limit_is_answered(mesh: Mesh) -> None:
    longest = [f"{number:0256d}" for number in range(1000)]
    request = request_of(
        user_id="x" * 256,
        page_size=200,
        seed_item_ids=longest[:50],
        exclude_item_ids=longest,
        market="SE",
    )

    response = mesh.recommend(request)

    assert response.coverage.ignored_item_ids == 1050
    assert len(response.items) == len(ITEM_IDS)


def test_the_recommendation_id_is_the_trace_and_span_that_leaves_see(mesh: Mesh) -> None:
    response = mesh.recommend(request_of())

    assert re.fullmatch(r"[0-9a-f]{32}-[0-9a-f]{16}", response.recommendation_id)
    trace_id, _, span_id = response.recommendation_id.partition("-")
    for leaf in mesh.leaves:
        traceparent = str(leaf.calls[0].metadata["traceparent"])
        assert traceparent.startswith(f"00-{trace_id}-{span_id}-")


def test_a_callers_trace_is_continued_and_two_answers_in_it_differ(mesh: Mesh) -> None:
    metadata = [("traceparent", TRACEPARENT)]
    ids = [mesh.recommend(request_of(), metadata=metadata).recommendation_id for _ in range(2)]

    assert all(each.startswith(f"{TRACE_ID}-") for each in ids)
    assert len(set(ids)) == 2
    assert not any(each.endswith(TRACEPARENT.split("-")[2]) for each in ids)


def test_answers_without_a_callers_trace_have_traces_of_their_own(mesh: Mesh) -> None:
    ids = [mesh.recommend(request_of()).recommendation_id for _ in range(2)]

    assert ids[0][:32] != ids[1][:32]


def test_a_caller_who_hangs_up_cancels_no_leaf_call(mesh: Mesh) -> None:
    mesh.ranker.step = mesh.ranker.hang
    first = mesh.call(request_of())
    wait_until(lambda: bool(mesh.ranker.calls))
    held = mesh.ranker.calls[0].context

    first.cancel()
    mesh.ranker.step = prefer_high_rows
    # It travels behind the cancellation, on the same connections: when it is answered, a
    # cancelled call would have reached the ranker.
    second = mesh.recommend(request_of(page_size=1))

    assert second.coverage.ranked_by == pb.RANKED_BY_MODEL
    assert held.is_active() or held.time_remaining() <= 0


def test_a_source_is_switched_off_and_on_while_the_gateway_runs(mesh: Mesh) -> None:
    def is_disabled() -> bool:
        return statuses(mesh.recommend(request_of()))["similar"] == "DISABLED"

    mesh.control_file.write_text('{"disabled_sources": ["similar"]}')
    wait_until(is_disabled)
    asked = len(mesh.sources["similar"].calls)
    response = mesh.recommend(request_of())

    assert response.coverage.degraded
    assert not response.coverage.sources[1].HasField("latency")
    assert len(mesh.sources["similar"].calls) == asked
    mesh.control_file.unlink()
    wait_until(lambda: not is_disabled())
