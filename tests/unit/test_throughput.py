"""What the comparison with peers makes of answers and rounds."""

import json
from collections.abc import Sequence

import pytest
from recmesh.gateway.v1 import gateway_pb2

from benchmarks.load.closed_loop import Ended
from benchmarks.load.plan import LoadResult
from benchmarks.load.process import Measured
from benchmarks.peers.slates import (
    Slate,
    SlatesDifferError,
    check_same_slates,
    difference,
    read_grpc,
    read_json,
)
from benchmarks.peers.variants import MESH, MONOLITH, NAIVE_MESH, VARIANTS
from benchmarks.throughput import Round, judge, summary, target_ratios

USERS = ("ann", "ben")
SLATE = Slate(("a", "b"), (2.0, 1.0), is_full=True)


def json_answer(*item_ids: str, degraded: bool = False, quality: float = 1.0) -> bytes:
    items = [{"item_id": one, "score": 2.0 - place} for place, one in enumerate(item_ids)]
    coverage = {"ranked_by": "MODEL", "degraded": degraded, "quality": quality}
    return json.dumps({"items": items, "coverage": coverage}).encode()


def message(*item_ids: str, degraded: bool = False, quality: float = 1.0) -> bytes:
    items = [gateway_pb2.Item(item_id=one, score=2.0 - place) for place, one in enumerate(item_ids)]
    coverage = gateway_pb2.Coverage(
        ranked_by=gateway_pb2.RANKED_BY_MODEL, degraded=degraded, quality=quality
    )
    return gateway_pb2.RecommendResponse(items=items, coverage=coverage).SerializeToString()


def a_round(per_s: float = 100.0, p99_ms: float = 10.0) -> Round:
    return Round(1.0, 2.0, p99_ms, per_s, 400, 1, 2, 3, {"gateway": 1.0, "ranker": 0.5, "load": 9})


def test_both_protocols_carry_the_same_slate() -> None:
    assert read_grpc(message("a", "b")) == SLATE == read_json(json_answer("a", "b"))


@pytest.mark.parametrize("read", [(read_grpc, message), (read_json, json_answer)])
def test_degraded_and_narrowed_answers_are_not_full(read: Sequence[object]) -> None:
    reader, written = read

    assert not reader(written("a", degraded=True)).is_full  # type: ignore[operator]  # a pair of functions
    assert not reader(written("a", quality=0.9)).is_full  # type: ignore[operator]  # a pair of functions


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (Slate(("a", "c"), (2.0, 1.0), True), "place 1 is b here, c there"),
        (Slate(("a",), (2.0,), True), "2 items here, 1 there"),
        (Slate(("a", "b"), (2.0, 1.001), True), "the score at place 1"),
        (None, "only one was answered"),
    ],
)
def test_a_difference_is_named(theirs: Slate | None, said: str) -> None:
    assert said in difference(SLATE, theirs)


def test_scores_that_float32_cannot_tell_apart_are_no_difference() -> None:
    assert difference(SLATE, Slate(("a", "b"), (2.0, 1.00000001), is_full=True)) == ""


def test_variants_that_differ_stop_the_run_with_user_and_place() -> None:
    other = Slate(("a", "x"), (2.0, 1.0), is_full=True)
    asked = {"mesh": lambda: [SLATE, SLATE], "peer": lambda: [SLATE, other]}

    with pytest.raises(SlatesDifferError, match="user ben, mesh and peer: place 1 is b here, x"):
        check_same_slates(asked, USERS)


def test_a_few_users_may_get_several_slates_and_are_left_out() -> None:
    other = Slate(("a", "x"), (2.0, 1.0), is_full=True)
    asked = {"mesh": lambda: [SLATE, SLATE], "peer": lambda: [SLATE, other]}

    assert check_same_slates(asked, USERS, most_differing=0.5) == (SLATE, None)
    with pytest.raises(SlatesDifferError, match="user ben"):
        check_same_slates(asked, USERS, most_differing=0.4)


@pytest.mark.parametrize("missing", [None, Slate(("a",), (1.0,), is_full=False)])
def test_a_mesh_that_gives_no_full_answer_stops_the_run(missing: Slate | None) -> None:
    with pytest.raises(SlatesDifferError, match="mesh gave user ben no full answer"):
        check_same_slates({"mesh": lambda: [SLATE, missing]}, USERS)


def test_only_full_answers_with_the_right_slate_count_as_throughput() -> None:
    bodies = [
        json_answer("a", "b"),
        json_answer("a", "b"),
        json_answer("b", "a"),
        json_answer("a", "b", degraded=True),
        None,
    ]
    ended = tuple(Ended(0, 0.010, body) for body in bodies)
    measured = Measured(LoadResult(ended, elapsed_s=2.0, cpu_s=0.005), {"worker-1": 0.050})

    judged = judge(measured, VARIANTS[1], [SLATE])

    assert (judged.answers, judged.errors, judged.degraded, judged.different) == (5, 1, 1, 1)
    assert judged.per_s == 1.0
    assert judged.p99_ms == pytest.approx(10.0)
    assert judged.cpu_ms == pytest.approx({"worker-1": 10.0, "load": 1.0})


def test_a_round_in_which_nothing_ended_has_no_throughput_and_no_end_of_latency() -> None:
    measured = Measured(LoadResult((), elapsed_s=2.0, cpu_s=0.0), {"worker-1": 0.0})

    judged = judge(measured, VARIANTS[1], [SLATE])

    assert judged.per_s == 0.0
    assert judged.p99_ms == float("inf")


def test_faults_of_all_rounds_are_shown_and_the_load_is_no_part_of_the_cost() -> None:
    row = summary(MESH, 8, [a_round(90.0), a_round(100.0), a_round(200.0)])

    assert (row["errors"], row["degraded"], row["different"]) == (3, 6, 9)
    assert row["per_s"] == 100.0
    assert (row["cpu_ms"], row["load_cpu_ms"]) == (1.5, 9)


def test_targets_are_judged_round_by_round() -> None:
    found = {(name, callers): [a_round()] for name in (MESH, NAIVE_MESH) for callers in (8, 32)}
    found |= {(MONOLITH, 32): [a_round(per_s=50.0)], (MONOLITH, 8): [a_round(p99_ms=10.0)]}

    beside_monolith, beside_naive, late = target_ratios(found)

    assert (beside_monolith.value, beside_monolith.is_met) == (2.0, True)
    assert (beside_naive.value, beside_naive.is_met) == (1.0, False)
    assert (late.value, late.is_met) == (1.0, False)
