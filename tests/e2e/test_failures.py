"""What the running mesh does when a part of it is switched off, dies, or is told to stop."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.run_file import RunningProcess
from recmesh_client import Coverage, RankedBy, RecommendationClient, SourceStatus
from tests.e2e.running_mesh import POLL_S, RunningMesh, has_ended, running_mesh

SWITCH_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0
RESTART_DEADLINE_S = 60.0

LISTENER = "usr_000001"
PAGE_SIZE = 20
LEAVES = ("candidates-ann", "candidates-similar", "candidates-trending", "ranker")


def coverage_when(client: RecommendationClient, is_reached: Callable[[Coverage], bool]) -> Coverage:
    """Ask until the coverage is as wanted; every answer on the way must be a full page."""
    gives_up_at_s = time.monotonic() + SWITCH_DEADLINE_S
    while True:
        answer = client.recommend(LISTENER, page_size=PAGE_SIZE, surface="batch")
        assert len(answer.items) == PAGE_SIZE
        if is_reached(answer.coverage) or time.monotonic() > gives_up_at_s:
            return answer.coverage
        time.sleep(POLL_S)  # asked without a pause, the mesh would have little left to start with


def faults_of(coverage: Coverage) -> list[str]:
    """Return the leaves, by the names of their processes, that an answer did without."""
    sources = [
        f"candidates-{each.source}"
        for each in coverage.sources
        if each.status is SourceStatus.ERROR
    ]
    return sources if coverage.ranked_by is RankedBy.MODEL else [*sources, "ranker"]


def status_of(coverage: Coverage, source: str) -> SourceStatus:
    return next(each.status for each in coverage.sources if each.source == source)


def test_a_source_can_be_switched_off_and_on_while_serving(
    mesh: RunningMesh,
) -> None:
    with RecommendationClient(mesh.gateway) as client:
        off = mesh.meshctl("source", "disable", "similar")
        disabled = coverage_when(client, lambda c: status_of(c, "similar") is SourceStatus.DISABLED)
        on = mesh.meshctl("source", "enable", "similar")
        enabled = coverage_when(client, lambda c: status_of(c, "similar") is SourceStatus.OK)

    assert off.returncode == on.returncode == 0
    assert status_of(disabled, "similar") is SourceStatus.DISABLED
    assert disabled.degraded
    assert status_of(enabled, "similar") is SourceStatus.OK
    assert not enabled.degraded


def test_status_says_that_every_process_serves(mesh: RunningMesh) -> None:
    assert eventually(lambda: mesh.meshctl("status").returncode == 0)
    ended = mesh.meshctl("status", "--json")

    processes = json.loads(ended.stdout)["processes"]
    assert len(processes) == 6
    serving = {each["versions"]["current"] for each in processes if each["name"] != "dynamodb"}
    assert len(serving) == 1
    assert "" not in serving


@pytest.fixture(scope="module")
def lossy(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh whose processes are killed by the tests; each leaves it whole."""
    with running_mesh(tmp_path_factory.mktemp("lossy"), world / "bundles") as mesh:
        yield mesh


@pytest.mark.parametrize("name", LEAVES)
def test_any_leaf_can_die_and_comes_back_by_itself(lossy: RunningMesh, name: str) -> None:
    before = lossy.running(name)
    with RecommendationClient(lossy.gateway) as client:
        with lossy.unattended():
            os.kill(before.pid, signal.SIGKILL)
            down = coverage_when(client, lambda c: faults_of(c) == [name])
            assert faults_of(down) == [name]
            assert down.degraded
            assert lossy.meshctl("status").returncode == 1
        back = coverage_when(client, lambda c: not c.degraded)

    after = lossy.running(name)
    assert faults_of(back) == []
    assert not back.degraded
    assert (after.address, after.restarts) == (before.address, before.restarts + 1)
    assert after.pid != before.pid


def test_all_leaves_can_die_at_once_and_come_back(lossy: RunningMesh) -> None:
    with RecommendationClient(lossy.gateway) as client:
        with lossy.unattended():
            for name in LEAVES:
                os.kill(lossy.running(name).pid, signal.SIGKILL)
            down = coverage_when(client, lambda c: len(faults_of(c)) == len(LEAVES))
            assert set(faults_of(down)) == set(LEAVES)
            assert down.filled_from_popularity == PAGE_SIZE
        back = coverage_when(client, lambda c: not c.degraded)

    assert not back.degraded


def test_the_gateway_and_dynamodb_come_back_by_themselves(lossy: RunningMesh) -> None:
    names = ("gateway", "dynamodb")
    before = [lossy.running(name) for name in names]
    for each in before:
        os.kill(each.pid, signal.SIGKILL)

    # The run file tells by itself, a command is a process of its own.
    assert eventually(lambda: is_back(lossy, before) and lossy.meshctl("status").returncode == 0)
    with RecommendationClient(lossy.gateway) as client:
        assert not coverage_when(client, lambda c: not c.degraded).degraded
    assert [lossy.running(name).address for name in names] == [each.address for each in before]


def test_a_stop_in_the_middle_of_a_restart_leaves_no_process(world: Path, tmp_path: Path) -> None:
    with running_mesh(tmp_path, world / "bundles") as mesh:
        ranker = mesh.running("ranker")
        os.kill(ranker.pid, signal.SIGTERM)
        assert eventually(lambda: mesh.running("ranker").pid != ranker.pid)

        assert_stops(mesh, mesh.pids(), signal.SIGTERM)


def test_ctrl_c_leaves_no_process(world: Path, tmp_path: Path) -> None:
    with running_mesh(tmp_path, world / "bundles") as mesh:
        pids = mesh.pids()

        assert len(pids) == 6
        assert_stops(mesh, pids, signal.SIGINT)


def assert_stops(mesh: RunningMesh, pids: list[int], stop: signal.Signals) -> None:
    mesh.supervisor.send_signal(stop)

    assert has_ended(mesh.supervisor.pid, within_s=STOP_DEADLINE_S)
    assert all(has_ended(pid, within_s=STOP_DEADLINE_S) for pid in pids)
    assert mesh.supervisor.wait(STOP_DEADLINE_S) == 0


def is_back(mesh: RunningMesh, before: list[RunningProcess]) -> bool:
    return all(mesh.running(each.name).restarts == each.restarts + 1 for each in before)


def eventually(claim: Callable[[], bool]) -> bool:
    gives_up_at_s = time.monotonic() + RESTART_DEADLINE_S
    while not claim():
        if time.monotonic() > gives_up_at_s:
            return False
        time.sleep(POLL_S)
    return True
