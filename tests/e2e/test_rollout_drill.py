"""Versions are promoted and rolled back under a steady load, and no caller notices.

RECMESH_DRILL=full runs it for at least 60 s.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import grpc
import pytest
from recmesh.common.v1 import status_pb2, status_pb2_grpc

from meshkit.bundles import BundleStore, open_store
from tests.e2e.rollout_load import Load, Records
from tests.e2e.running_mesh import RunningMesh, meshctl, running_mesh

LEAVES = ("candidates-ann", "candidates-similar", "candidates-trending", "ranker")
HOLD_S = 5.0
REQUESTS_PER_S = 50.0
MOVES = 6
LEAST_S = 60.0 if os.environ.get("RECMESH_DRILL") == "full" else 0.0
DEADLINE_S = 60.0
CALL_LOG = "calls.log"
RSS_LIMIT = 1.25
"""Of what a leaf had before the first promotion: these bundles are a hundredth of a process."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def store(world: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    """Two bundles of one log, trained with different seeds; the first is current."""
    bundles = tmp_path_factory.mktemp("drill") / "bundles"
    shutil.copytree(world / "bundles", bundles)
    store = open_store(bundles)
    first = store.current()
    ended = meshctl(world, "train", "log", "--bundles", str(bundles), "--seed", "2")
    assert ended.returncode == 0, ended.stderr
    store.promote(first)
    return store


@pytest.fixture(scope="module")
def drilled(store: BundleStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh with two workers of each leaf."""
    directory = tmp_path_factory.mktemp("mesh")
    options = ("--workers", "ann=2,similar=2,trending=2,ranker=2", "--hold-s", str(HOLD_S))
    settings = {
        "RECMESH_POLL_S": "0.2",
        "RECMESH_CALL_LOG": str(directory / CALL_LOG),
    }
    with running_mesh(directory, Path(store.location), *options, **settings) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def users(world: Path) -> list[str]:
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT DISTINCT user_id FROM read_parquet($log) ORDER BY user_id LIMIT 200",
            {"log": str(world / "log" / "events.parquet")},
        ).fetchall()
    return [user for (user,) in rows]


def described(mesh: RunningMesh, name: str = "gateway") -> status_pb2.DescribeResponse:
    with grpc.insecure_channel(mesh.process(name)[0]) as channel:
        stub = status_pb2_grpc.StatusServiceStub(channel)
        return stub.Describe(status_pb2.DescribeRequest(), timeout=DEADLINE_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    gives_up_at_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < gives_up_at_s, "waited in vain"
        time.sleep(0.1)


def leaf_pids(mesh: RunningMesh) -> list[int]:
    return [mesh.process(f"{leaf}-{worker}")[1] for leaf in LEAVES for worker in (1, 2)]


def rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def maps(pid: int, version: str) -> bool:
    return version in Path(f"/proc/{pid}/maps").read_text()


def test_no_caller_notices_that_versions_come_and_go(
    store: BundleStore, drilled: RunningMesh, users: list[str]
) -> None:
    versions = store.versions()
    began_s = time.monotonic()
    with Load(drilled.gateway, users, REQUESTS_PER_S).running() as load:
        wait_until(lambda: len(load.asked) >= 2 * REQUESTS_PER_S)
        before = {pid: rss_kb(pid) for pid in leaf_pids(drilled)}
        moves = 0
        while moves < MOVES or time.monotonic() < began_s + LEAST_S:
            moves += 1
            version = versions[moves % 2]
            if moves % 3:
                store.promote(version)
            else:
                assert store.rollback() == version
            wait_until(lambda version=version: described(drilled).current_version == version)  # type: ignore[misc]  # mypy has no type for a default
            # Past hold_s once, so that a version also comes back from the disk.
            pause_s = HOLD_S + 3 if moves == 2 else 1.0
            time.sleep(pause_s)  # this is load, not a wait for a state
        took_s = time.monotonic() - began_s
    current, other = versions[moves % 2], versions[(moves + 1) % 2]
    wait_until(lambda: not any(maps(pid, other) for pid in leaf_pids(drilled)))
    wait_until(lambda: not maps(drilled.process("gateway")[1], other))

    records = Records.read(drilled.directory / CALL_LOG)
    assert load.faults() == []
    assert len(load.asked) >= 0.95 * REQUESTS_PER_S * took_s
    assert [version for _, version in records.pinned] == [
        versions[number % 2] for number in range(moves + 1)
    ]
    for asked in load.asked:
        assert asked.version in records.current_during(asked)
        assert records.answered[asked.trace_id] == asked.version
        calls = records.served[asked.trace_id]
        assert sorted(leaf for leaf, _ in calls) == sorted(LEAVES)
        assert {version for _, version in calls} == {asked.version}
    assert {leaf: len(records.workers[leaf]) for leaf in LEAVES} == dict.fromkeys(LEAVES, 2)
    assert all(maps(pid, current) for pid in leaf_pids(drilled))
    growth = {pid: rss_kb(pid) / before[pid] for pid in before}
    print(f"{len(load.asked)} requests, {moves} moves in {took_s:.0f} s; RSS {growth}")
    assert max(growth.values()) < RSS_LIMIT
