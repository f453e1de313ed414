"""The quality benchmark on the small world: its protocol is training's, its children are apart."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.quality.__main__ import ask_child
from benchmarks.quality.child import peer_on
from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.tune import PEERS
from pipeline.event_log import read_event_log
from pipeline.metrics import METRICS
from tests.integration.small_world import TrainedWorld


def test_a_peer_is_measured_on_the_users_and_targets_that_ours_is_measured_on(
    trained_world: TrainedWorld,
) -> None:
    popularity = next(peer for peer in PEERS if peer.name == "popularity")
    log = read_event_log(trained_world.log)

    found = peer_on(popularity, log, "ndcg_10")

    report = trained_world.trained.report
    ours = next(method for method in report.methods if method.method == "popularity")
    assert found["users"] == report.users
    for metric in (*METRICS, "ndcg_10_ci95"):
        assert found["rows"][0][metric] == pytest.approx(getattr(ours, metric))


def test_a_child_tells_figures_settings_and_costs(trained_world: TrainedWorld) -> None:
    found = ask_child(trained_world.log, "EASE", DATA_SETS[0])

    (row,) = found["rows"]
    assert 0 < row["ndcg_20"] <= 1
    assert found["tried"] == 5
    assert found["settings"]["l2"] in (30, 100, 300, 1000, 3000)
    assert 50 < found["peak_mib"] < 4_000


def test_without_data_the_benchmark_says_so_and_succeeds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.quality", "--data", str(tmp_path)]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert "30Music is skipped: no 30music/ below" in run.stderr
    assert "nothing to measure" in run.stderr
