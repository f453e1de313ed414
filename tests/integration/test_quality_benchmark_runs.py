"""The quality benchmark on the small world: its protocol is training's, its children are apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import machine_facts
from benchmarks.quality.__main__ import ask_child, main
from benchmarks.quality.child import peer_on
from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.ours import (
    IN_MESH,
    OFFLINE,
    OURS,
    is_as_offline,
)
from benchmarks.quality.protocol import windows_of
from benchmarks.quality.results import Found, over_seeds
from benchmarks.quality.tune import PEERS
from pipeline.event_log import read_event_log
from pipeline.metrics import METRICS
from tests.integration.small_world import TrainedWorld

SMALL = next(each for each in DATA_SETS if each.name == "MovieLens-100K")
"""Whose recipe the small world is trained by."""


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


@pytest.fixture(scope="module")
def measured_ours(trained_world: TrainedWorld) -> Found:
    """Ours on the small world: trained, served by a mesh of its own, and asked."""
    return ask_child(trained_world.log, OURS, SMALL, seed=2)


def test_the_mesh_answers_every_user_of_the_protocol_with_the_offline_list(
    measured_ours: Found, trained_world: TrainedWorld
) -> None:
    _, window = windows_of(read_event_log(trained_world.log), seed=2)
    mesh = measured_ours["mesh"]

    assert mesh["users"] == measured_ours["users"] == len(window.users) > 50
    assert (mesh["failed"], mesh["degraded"], mesh["narrowed"]) == (0, 0, 0)
    assert is_as_offline(mesh)
    assert mesh["per_s"] == pytest.approx(mesh["users"] / mesh["seconds"])


def test_the_row_of_the_mesh_stands_first_and_is_as_good_as_the_offline_list(
    measured_ours: Found,
) -> None:
    rows = {row["method"]: row for row in measured_ours["rows"]}

    assert next(iter(rows)) == IN_MESH
    assert rows.keys() >= {OFFLINE, "recmesh: merge order", "recmesh: ann", "recmesh: popularity"}
    assert 0.02 < rows[IN_MESH]["ndcg_10"] < 1
    for metric in ("ndcg_10", "ndcg_20", "hit_10", "ndcg_10_ci95"):
        assert rows[IN_MESH][metric] == pytest.approx(rows[OFFLINE][metric], rel=0.02)


def test_every_source_is_asked_for_what_only_it_finds(measured_ours: Found) -> None:
    found = {each["source"]: each for each in measured_ours["sources"]}

    assert found.keys() == set(measured_ours["recipe"]["sources"])
    for each in found.values():
        assert 0 <= each["unique_recall"] <= each["recall"] <= 1
    assert any(each["recall"] > each["unique_recall"] > 0 for each in found.values())


def test_ours_has_costs_of_its_own_and_is_one_of_several_seeds(measured_ours: Found) -> None:
    assert measured_ours["seed"] == 2
    assert measured_ours["train_s"] > 0
    assert 50 < measured_ours["peak_mib"] < 4_000
    assert over_seeds([measured_ours])["rows"] == measured_ours["rows"]


def test_stored_results_are_printed_as_markdown(
    tmp_path: Path, measured_ours: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = {"users": 5, "rows": [{**measured_ours["rows"][0], "method": "EASE"}]}
    costs = {"tuning_s": 1.0, "train_s": 1.0, "peak_mib": 1.0, "settings": {}}
    for name, found in (("EASE", {**peer, **costs}), ("recmesh", over_seeds([measured_ours]))):
        result = {"data_set": SMALL.name, "order": "time", "methods": {name: found}}
        file = {"machine": machine_facts(), "sets": [result]}
        (tmp_path / f"{name}.json").write_text(json.dumps(file))

    main(["--tables", str(tmp_path / "EASE.json"), str(tmp_path / "recmesh.json")])

    printed = capsys.readouterr().out
    assert "| EASE | " in printed
    assert "| recmesh: ranked (mesh) | " in printed
    assert "1.00 times EASE" in printed


def test_a_file_that_cannot_be_read_ends_the_tables_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*no.json cannot be read"):
        main(["--tables", str(tmp_path / "no.json")])


def test_without_data_the_benchmark_says_so_and_succeeds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.quality", "--data", str(tmp_path)]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert "30Music is skipped: no 30music/ below" in run.stderr
    assert "nothing to measure" in run.stderr
