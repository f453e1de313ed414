"""What the running mesh does when a part of it is switched off, dies, or is told to stop."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from recmesh_client import Coverage, RankedBy, RecommendationClient, SourceStatus
from tests.e2e.running_mesh import RunningMesh, has_ended, running_mesh

SWITCH_DEADLINE_S = 15.0
STOP_DEADLINE_S = 10.0

LISTENER = "usr_000001"


def coverage_when(client: RecommendationClient, is_reached: Callable[[Coverage], bool]) -> Coverage:
    """Ask until the coverage is as wanted; every answer on the way must be a full page."""
    gives_up_at_s = time.monotonic() + SWITCH_DEADLINE_S
    while True:
        answer = client.recommend(LISTENER, page_size=20, surface="batch")
        assert len(answer.items) == 20
        if is_reached(answer.coverage) or time.monotonic() > gives_up_at_s:
            return answer.coverage


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
    ended = mesh.meshctl("status", "--json")

    assert ended.returncode == 0, ended.stdout
    processes = json.loads(ended.stdout)["processes"]
    assert len(processes) == 6
    serving = {each["versions"]["current"] for each in processes if each["name"] != "dynamodb"}
    assert len(serving) == 1
    assert "" not in serving


def test_any_leaf_can_die_and_every_answer_is_full_and_names_it(
    world: Path, tmp_path: Path
) -> None:
    with (
        running_mesh(tmp_path, world / "bundles") as mesh,
        RecommendationClient(mesh.gateway) as client,
    ):
        pids = mesh.pids()
        os.kill(mesh.process("ranker")[1], signal.SIGKILL)
        unranked = coverage_when(client, lambda c: c.ranked_by is RankedBy.FALLBACK)
        assert unranked.ranked_by is RankedBy.FALLBACK
        assert unranked.degraded
        assert all(each.status is SourceStatus.OK for each in unranked.sources)

        for source in ("trending", "similar", "ann"):
            os.kill(mesh.process(f"candidates-{source}")[1], signal.SIGKILL)
            coverage = coverage_when(client, failed(source))
            assert status_of(coverage, source) is SourceStatus.ERROR
            assert coverage.degraded
        assert coverage.filled_from_popularity == 20

        assert mesh.meshctl("status").returncode == 1
        assert_stops(mesh, pids, signal.SIGTERM)


def test_ctrl_c_leaves_no_process(world: Path, tmp_path: Path) -> None:
    with running_mesh(tmp_path, world / "bundles") as mesh:
        pids = mesh.pids()

        assert len(pids) == 6
        assert_stops(mesh, pids, signal.SIGINT)


def assert_stops(mesh: RunningMesh, pids: list[int], stop: signal.Signals) -> None:
    mesh.supervisor.send_signal(stop)

    assert has_ended(mesh.supervisor.pid, within_s=STOP_DEADLINE_S)
    assert all(has_ended(pid, within_s=0.5) for pid in pids)
    assert mesh.supervisor.wait(1) == 0


def failed(source: str) -> Callable[[Coverage], bool]:
    return lambda coverage: status_of(coverage, source) is SourceStatus.ERROR
