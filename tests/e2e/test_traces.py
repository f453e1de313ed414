"""Where an answer's time went, as `meshctl` tells of the running mesh and of the demo."""

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from meshctl.demo import serve_and_ask
from meshkit.bundles import open_store
from tests.e2e.running_mesh import RunningMesh, meshctl

ANSWER = "recmesh.gateway.v1.RecommendationService/Recommend"
SERVICES = {
    "gateway",
    "candidates-ann",
    "candidates-similar",
    "candidates-trending",
    "ranker",
}
STAGES = ["look_up", "fan_out", "merge", "filter.seen", "filter.excluded", "filter.rights"]
STAGES += ["rank", "re_rank"]

Json = dict[str, Any]


def listener(world: Path) -> str:
    """Return somebody that the world knows."""
    with duckdb.connect() as db:
        log = str(world / "log" / "events.parquet")
        found = db.execute("SELECT max(user_id) FROM read_parquet($log)", {"log": log}).fetchall()
    return str(found[0][0])


def traced(mesh: RunningMesh, *arguments: str) -> Json:
    ended = mesh.meshctl("trace", *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    found: Json = json.loads(ended.stdout)
    return found


def recommend(mesh: RunningMesh, user: str, *arguments: str) -> Json:
    options = ("--surface", "batch", "--json")
    ended = mesh.meshctl("recommend", user, *options, *arguments)
    assert ended.returncode == 0, ended.stderr
    found: Json = json.loads(ended.stdout)
    return found


def recommend_wholly(mesh: RunningMesh, user: str, *arguments: str) -> Json:
    """Ask until the answer is whole: on a busy machine a leaf may be late now and then."""
    for _ in range(10):
        answer = recommend(mesh, user, *arguments)
        if not answer["coverage"]["degraded"]:
            return answer
    raise AssertionError(answer["coverage"])


def test_every_hop_of_an_answer_is_in_its_trace_in_order(world: Path, mesh: RunningMesh) -> None:
    answer = recommend_wholly(mesh, listener(world))

    trace = traced(mesh, str(answer["recommendation_id"]))

    spans = trace["spans"]
    assert trace["complete"], trace["missing"]
    assert set(trace["services"]) == SERVICES
    assert spans[0]["name"] == ANSWER
    own = spans[0]["span_id"]
    assert [each["name"] for each in spans if each["parent_id"] == own] == STAGES
    assert {each["status"] for each in spans} == {"unset"}
    assert min(float(str(each["duration_ms"])) for each in spans) >= 0


def test_recommend_prints_the_slate_and_the_trace_together(world: Path, mesh: RunningMesh) -> None:
    user = listener(world)
    table = mesh.meshctl("recommend", user, "--surface", "batch", "--trace")
    answer = recommend(mesh, user, "--trace")

    assert table.returncode == 0, table.stderr
    assert table.stdout.index("degraded") < table.stdout.index("fan_out")
    assert "of 5 services" in table.stdout
    trace_id = str(answer["trace"]["trace_id"])
    assert str(answer["recommendation_id"]).startswith(trace_id)


def test_last_is_the_newest_answer_and_leads_to_the_refresh_behind_it(
    world: Path, mesh: RunningMesh
) -> None:
    recommend(mesh, listener(world), "--trace")
    newest = recommend_wholly(mesh, "nobody-yet", "--trace")

    last = traced(mesh, "--last")
    (refresh_id,) = {str(link) for each in last["spans"] for link in each["links"]}
    refresh = traced(mesh, refresh_id)

    assert last == newest["trace"]
    assert refresh["spans"][0]["name"] == "trending.refresh"
    assert refresh["complete"]


def test_a_switched_off_source_is_seen_in_the_trace(world: Path, mesh: RunningMesh) -> None:
    user = listener(world)
    assert mesh.meshctl("source", "disable", "ann").returncode == 0
    try:
        answer = _degraded(mesh, user)
    finally:
        mesh.meshctl("source", "enable", "ann")

    trace = answer["trace"]
    assert trace["degraded"] is True
    assert "candidates-ann" not in trace["services"]
    assert "DISABLED" in json.dumps(trace)


def _degraded(mesh: RunningMesh, user: str) -> Json:
    """Ask until the gateway has read its control file."""
    for _ in range(20):
        answer = recommend(mesh, user, "--trace")
        if answer["coverage"]["degraded"]:
            return answer
    raise AssertionError("the switch was not obeyed")


def test_the_demo_ends_with_the_trace_of_its_last_answer(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundles = world / "bundles"
    out = io.StringIO()

    is_answered = serve_and_ask(
        world / "log", bundles, open_store(bundles).current(), Console(file=out, width=120)
    )

    assert is_answered
    shown = out.getvalue()
    recommendation_id = shown.rpartition("recommendation ")[2].split()[0]
    waterfall = shown.rpartition("the trace of the last answer")[2]
    for name in (*SERVICES, *STAGES):
        assert name in waterfall
    assert f"trace {recommendation_id.partition('-')[0]}" in waterfall
    assert "missing" not in waterfall
    last = meshctl(tmp_path, "trace", "--last")
    assert last.returncode == 0, last.stderr
    assert recommendation_id.partition("-")[0] in last.stdout
