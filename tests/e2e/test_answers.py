"""What callers get from the running mesh."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from recmesh_client import RankedBy, RecommendationClient, SourceStatus
from tests.e2e.running_mesh import RunningMesh, whole_answer

ROOT = Path(__file__).parents[2]
SOURCES = ("ann", "similar", "trending")


def plays_of(world: Path) -> dict[str, set[str]]:
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT user_id, list(DISTINCT item_id) FROM read_parquet($log) GROUP BY user_id",
            {"log": str(world / "log" / "events.parquet")},
        ).fetchall()
    return {user: set(items) for user, items in rows}


@pytest.fixture(scope="module")
def heavy_listener(world: Path) -> str:
    plays = plays_of(world)
    return max(plays, key=lambda user: (len(plays[user]), user))


def test_a_known_listener_gets_a_full_page_of_new_items(
    world: Path, mesh: RunningMesh, heavy_listener: str
) -> None:
    with RecommendationClient(mesh.gateway) as client:
        answer = whole_answer(
            lambda: client.recommend(heavy_listener, page_size=50, surface="batch")
        )

    ids = [item.item_id for item in answer.items]
    assert len(ids) == len(set(ids)) == 50
    assert not set(ids) & plays_of(world)[heavy_listener]
    assert answer.coverage.ranked_by is RankedBy.MODEL
    assert not answer.coverage.degraded
    assert {each.source: each.status for each in answer.coverage.sources} == dict.fromkeys(
        SOURCES, SourceStatus.OK
    )
    assert all(item.sources for item in answer.items)


def test_an_unknown_listener_gets_what_trends_and_is_not_degraded(mesh: RunningMesh) -> None:
    with RecommendationClient(mesh.gateway) as client:
        answer = whole_answer(lambda: client.recommend("nobody-yet", page_size=20, surface="batch"))

    assert len(answer.items) == 20
    assert answer.coverage.ranked_by is RankedBy.FALLBACK
    assert not answer.coverage.degraded


def test_seed_items_personalise_an_anonymous_answer(mesh: RunningMesh) -> None:
    with RecommendationClient(mesh.gateway) as client:
        cold = client.recommend("", page_size=20, surface="batch")
        seed = cold.items[-1].item_id
        seeds = [seed, "no-id"]
        seeded = whole_answer(
            lambda: client.recommend("", page_size=20, surface="batch", seed_item_ids=seeds)
        )

    assert seeded.coverage.ranked_by is RankedBy.MODEL
    assert seeded.coverage.ignored_item_ids == 1
    assert seed not in {item.item_id for item in seeded.items}
    assert {p.source for item in seeded.items for p in item.sources} >= {"ann", "similar"}


def test_excluded_items_are_not_answered(mesh: RunningMesh, heavy_listener: str) -> None:
    with RecommendationClient(mesh.gateway) as client:
        first = client.recommend(heavy_listener, page_size=30, surface="batch")
        excluded = [item.item_id for item in first.items]
        second = client.recommend(
            heavy_listener, page_size=30, surface="batch", exclude_item_ids=excluded
        )

    assert len(second.items) == 30
    assert not {item.item_id for item in second.items} & set(excluded)


def test_items_without_rights_in_the_market_are_not_answered(
    world: Path, mesh: RunningMesh
) -> None:
    with duckdb.connect() as db:
        withheld = db.execute(
            "SELECT item_id FROM read_parquet($items) "
            "WHERE len(markets) > 0 AND NOT list_contains(markets, 'SE')",
            {"items": str(world / "log" / "items.parquet")},
        ).fetchall()
    with RecommendationClient(mesh.gateway) as client:
        everywhere = client.recommend("", page_size=200, surface="batch")
        in_market = client.recommend("", page_size=200, surface="batch", market="SE")

    withheld_ids = {item_id for (item_id,) in withheld}
    assert {item.item_id for item in everywhere.items} & withheld_ids
    assert not {item.item_id for item in in_market.items} & withheld_ids
    assert len(in_market.items) == 200


def test_the_same_request_gets_the_same_slate(mesh: RunningMesh, heavy_listener: str) -> None:
    with RecommendationClient(mesh.gateway) as client:
        first, second = (
            whole_answer(lambda: client.recommend(heavy_listener, page_size=100, surface="batch"))
            for _ in range(2)
        )

    assert first.items == second.items
    assert first.recommendation_id != second.recommendation_id


def test_bad_input_names_every_field_and_its_limit(mesh: RunningMesh) -> None:
    request = gateway_pb2.RecommendRequest(
        page_size=201, surface="kitchen", market="se", seed_item_ids=["x"] * 51
    )
    with grpc.insecure_channel(mesh.gateway) as channel:
        stub = gateway_pb2_grpc.RecommendationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failed:
            stub.Recommend(request, timeout=30)

    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = {each.key: each.value for each in failed.value.trailing_metadata()}
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    faults = {each.field: each.description for each in details.field_violations}
    assert set(faults) == {"page_size", "surface", "market", "seed_item_ids"}
    assert "200" in faults["page_size"]
    assert "50" in faults["seed_item_ids"]


def test_the_command_line_prints_a_slate_and_json(mesh: RunningMesh, heavy_listener: str) -> None:
    table = _whole_table(mesh, heavy_listener)
    as_json = mesh.meshctl("recommend", heavy_listener, "--count", "7", "--json")

    assert table.returncode == 0, table.stderr
    assert "not degraded" in table.stdout
    assert len(json.loads(as_json.stdout)["items"]) == 7


def _whole_table(mesh: RunningMesh, user: str) -> "subprocess.CompletedProcess[str]":
    """Print slates until one is whole: on a busy machine a leaf may be late now and then."""
    for _ in range(10):
        ended = mesh.meshctl("recommend", user, "--count", "7", "--surface", "batch")
        if "not degraded" in ended.stdout:
            break
    return ended


def test_many_users_are_answered_in_their_order(
    world: Path, mesh: RunningMesh, tmp_path: Path
) -> None:
    users = sorted(plays_of(world))[:60]
    (tmp_path / "users.txt").write_text("\n".join(users) + "\n")
    out = tmp_path / "slates.jsonl"

    ended = mesh.meshctl(
        "recommend", "--users", str(tmp_path / "users.txt"), "--count", "30", "--jsonl", str(out)
    )

    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["user_id"] for line in lines] == users
    assert all(len(line["item_ids"]) == 30 for line in lines)
    assert all(set(line) == {"user_id", "item_ids", "degraded"} for line in lines)


def test_a_generated_stub_outside_the_package_can_call(mesh: RunningMesh, tmp_path: Path) -> None:
    script = tmp_path / "call.py"
    script.write_text(
        "import sys, grpc\n"
        f"sys.path.insert(0, {str(ROOT / 'gen')!r})\n"
        "from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc\n"
        "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
        "    stub = gateway_pb2_grpc.RecommendationServiceStub(channel)\n"
        "    answer = stub.Recommend(gateway_pb2.RecommendRequest(page_size=3), timeout=30)\n"
        "print(len(answer.items))\n"
    )

    ended = subprocess.run(
        [sys.executable, "-I", str(script), mesh.gateway],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.stdout == "3\n", ended.stderr


def test_buf_curl_can_call_through_reflection(mesh: RunningMesh) -> None:
    method = "recmesh.gateway.v1.RecommendationService/Recommend"

    ended = subprocess.run(
        [
            Path(sys.executable).with_name("buf"),
            "curl",
            "--protocol=grpc",
            "--http2-prior-knowledge",
            "--data",
            '{"page_size": 4, "surface": "batch"}',
            f"http://{mesh.gateway}/{method}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["items"]) == 4
