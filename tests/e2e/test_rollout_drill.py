"""Versions are promoted and rolled back under a steady load, and no caller notices.

RECMESH_DRILL=full tries every broken bundle that we know, not one in seven: `make drill`.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import grpc
import pytest
from recmesh.common.v1 import status_pb2, status_pb2_grpc

from meshkit.bundles import POINTER, BundleStore, open_store
from tests.broken_bundles import BrokenBundle, broken_bundles
from tests.e2e.rollout_load import Load, Records
from tests.e2e.running_mesh import RunningMesh, meshctl, running_mesh

LEAVES = ("candidates-ann", "candidates-similar", "candidates-trending", "ranker")
HOLD_S = 5.0
IS_FULL = os.environ.get("RECMESH_DRILL") == "full"
REQUESTS_PER_S = 50.0 if IS_FULL else 25.0
EXCUSED = 0.0 if IS_FULL else 0.01
"""Share of the requests that may be late on a machine that stands still now and then."""
MOVES = 6
LEAST_S = 60.0
LEAST_REQUESTS = 1_000
DEADLINE_S = 60.0
CALL_LOG = "calls.log"
STEP = 1 if IS_FULL else 7
"""One broken bundle in so many is tried."""
RSS_LIMIT = 1.10
"""Of what a leaf had before the first promotion."""

pytestmark = [pytest.mark.load, pytest.mark.timeout(900 if IS_FULL else 300)]


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


def serves(mesh: RunningMesh, version: str) -> bool:
    return described(mesh).current_version == version


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
        while (
            moves < MOVES
            or time.monotonic() < began_s + LEAST_S
            or len(load.asked) < LEAST_REQUESTS
        ):
            moves += 1
            version = versions[moves % 2]
            if moves % 3:
                store.promote(version)
            else:
                assert store.rollback() == version
            wait_until(partial(serves, drilled, version))
            # Past hold_s before every rollback, so that versions come back from the disk as well.
            pause_s = HOLD_S + 3 if moves % 3 == 2 else 1.0
            time.sleep(pause_s)  # this is load, not a wait for a state
        took_s = time.monotonic() - began_s
    current, other = versions[moves % 2], versions[(moves + 1) % 2]
    wait_until(lambda: not any(maps(pid, other) for pid in leaf_pids(drilled)))
    wait_until(lambda: not maps(drilled.process("gateway")[1], other))

    records = Records.read(drilled.directory / CALL_LOG)
    assert load.faults(excused=EXCUSED) == []
    assert [version for _, version in records.pinned] == [
        versions[number % 2] for number in range(moves + 1)
    ]
    answered = [asked for asked in load.asked if asked.trace_id]
    assert len(answered) >= (1 - EXCUSED) * LEAST_REQUESTS
    for asked in answered:
        assert asked.version in records.current_during(asked)
        assert records.answered[asked.trace_id] == asked.version
        calls = records.served[asked.trace_id]
        if not asked.fault:
            assert {leaf for leaf, _ in calls} == set(LEAVES)  # a slow one may be asked twice
        assert {version for _, version in calls} == {asked.version}
    assert {leaf: len(records.workers[leaf]) for leaf in LEAVES} == dict.fromkeys(LEAVES, 2)
    assert all(maps(pid, current) for pid in leaf_pids(drilled))
    growth = {pid: rss_kb(pid) / before[pid] for pid in before}
    print(f"{len(load.asked)} requests, {moves} moves in {took_s:.0f} s; RSS {growth}")
    assert max(growth.values()) < RSS_LIMIT


def test_no_broken_bundle_is_served_and_no_caller_notices(
    store: BundleStore, drilled: RunningMesh, users: list[str]
) -> None:
    root = Path(store.location)
    good = store.current()
    processes = ["gateway", *(f"{leaf}-{worker}" for leaf in LEAVES for worker in (1, 2))]
    broken = list(broken_bundles(root / good, root, step=STEP))
    slowest_s = 0.0
    with Load(drilled.gateway, users, REQUESTS_PER_S).running() as load:
        for bundle in broken:
            began_s = time.monotonic()
            point_at(root, bundle.path.name)
            for name in processes:
                wait_until(partial(refused, drilled, name, bundle))
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        shown = drilled.meshctl("status")
        point_at(root, good)
        wait_until(lambda: not load.asked[-1].fault)

    assert load.faults(excused=EXCUSED) == []
    assert {asked.version for asked in load.asked if asked.trace_id} == {good}
    assert described(drilled).current_version == good
    assert broken[-1].path.name in shown.stdout
    assert "refused: " in shown.stdout
    assert shown.returncode == 0
    print(f"{len(broken)} broken bundles, {len(load.asked)} requests, slowest {slowest_s:.1f} s")


def point_at(root: Path, version: str) -> None:
    """Move the pointer as somebody might who does not verify."""
    staged = root / ".CURRENT-by-hand"
    staged.write_text(version + "\n")
    staged.replace(root / POINTER)


def refused(mesh: RunningMesh, name: str, bundle: BrokenBundle) -> bool:
    """Tell whether a process refuses the bundle, with a reason."""
    return any(
        each.version == bundle.path.name and each.reason
        for each in described(mesh, name).versions
        if each.state == status_pb2.VERSION_STATE_REFUSED
    )
