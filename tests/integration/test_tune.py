"""`meshctl tune`, from a log directory to a recipe that trains."""

import json
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import duckdb
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from meshctl.tune import INTERRUPTED
from meshctl.tune import tune as tune_command
from pipeline.cuts import cut_log
from pipeline.event_log import read_event_log
from pipeline.log_directory import read_log_summary
from pipeline.recipe import DEFAULT, read_recipe, to_json
from pipeline.synth.generate import synthesise_log
from pipeline.synth.settings import SynthSettings
from pipeline.tune import RANGES, Search, tune
from tests.integration.small_world import Quiet
from tests.unit.event_logs import Play, write_event_log

SMALL_WORLD = SynthSettings(users=90, items=120, days=40, seed=5, events_per_user=30)
QUICK = """
negatives = 8
[forest]
least_trees = 2
most_trees = 3
min_data_in_leaf = 5
"""
DEADLINE_S = 90


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "log"
    synthesise_log(SMALL_WORLD, out)
    return out


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose forests grow at once."""
    path = tmp_path_factory.mktemp("recipes") / "quick.toml"
    path.write_text(QUICK)
    return path


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(tune_command)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def searched(log: Path, quick: Path) -> Search:
    with warnings.catch_warnings():
        # implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
        warnings.filterwarnings("ignore", module="implicit")
        return tune(
            log,
            read_recipe(str(quick)),
            trials=3,
            seed=1,
            timeout_s=None,
            progress=Quiet(),
            found=lambda _: None,
        )


def judged(search: Search) -> list[tuple[object, float, int]]:
    return [(trial.settings, trial.ndcg_10, trial.trees) for trial in search.trials]


def plays_of(log: Path) -> list[Play]:
    with duckdb.connect() as db:
        db.read_parquet(str(log / "events.parquet")).create_view("events")
        rows = db.sql("SELECT user_id, item_id, timestamp FROM events ORDER BY ALL").fetchall()
    return [Play(*row) for row in sorted(rows, key=lambda row: row[2])]


def shuffled(plays: list[Play], seed: int) -> list[Play]:
    """Return the same users, items and times, drawn together anew."""
    random = np.random.default_rng(seed)
    users = random.permutation([play.user for play in plays]).tolist()
    items = random.permutation([play.item for play in plays]).tolist()
    return [
        Play(user, item, play.at_s) for user, item, play in zip(users, items, plays, strict=True)
    ]


def test_a_search_writes_the_best_recipe_and_every_trial(
    log: Path, quick: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.toml"

    done = run(log, "--recipe", quick, "--trials", "3", "--seed", "7", "--out", out)

    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "found.trials.json").read_text())
    trials = record["trials"]
    best = trials[record["best"]]
    start = read_recipe(str(quick))
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert trials[0]["settings"] == {name: getattr(start.forest, name) for name in RANGES}
    assert best["ndcg_10"] == max(trial["ndcg_10"] for trial in trials)
    assert all(trial["trees"] >= 2 and trial["seconds"] >= 0 for trial in trials)
    assert record["start"] == to_json(start)
    assert record["log"] == asdict(read_log_summary(log))
    written = to_json(read_recipe(str(out)))
    assert written == {**to_json(start), "forest": {**to_json(start)["forest"], **best["settings"]}}
    head = out.read_text()
    for said in (
        f"# Tuned: the best of {len(trials)} trials.",
        "meshctl tune log --recipe quick.toml --trials 3 --seed 7 --out found.toml",
        "# Log: synth, order time, ",
        f"# NDCG@10: {best['ndcg_10']:.5f} in trial {best['number']}; "
        f"of the recipe to start from {trials[0]['ndcg_10']:.5f}",
        "# (LightGBM's ndcg@10 on the newest training cut",
    ):
        assert said in head
    assert f"NDCG@10 {best['ndcg_10']:.5f} in trial {best['number']}" in done.stdout
    assert done.stderr.count("trial ") >= 3


def test_the_same_search_again_writes_the_same_recipe(
    log: Path, quick: Path, tmp_path: Path
) -> None:
    given = (log, "--recipe", quick, "--trials", "3", "--out", tmp_path / "found.toml")

    first = run(*given)
    written = (tmp_path / "found.toml").read_bytes()
    refused, again = run(*given), run(*given, "--replace")

    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    assert (tmp_path / "found.toml").read_bytes() == written
    assert refused.exit_code == 1
    assert "found.toml exists already; --replace replaces it" in refused.stderr


def test_garbage_after_the_test_cut_changes_no_trial(
    log: Path, quick: Path, tmp_path: Path
) -> None:
    plays = plays_of(log)
    test_s = cut_log(read_event_log(log), seed=1, recipe=DEFAULT).test.as_of_s
    known = [play for play in plays if (play.at_s or 0) < test_s]
    held_back = plays[len(known) :]
    garbage = shuffled(held_back, seed=1)
    assert len(set(garbage) & set(held_back)) < len(held_back) / 4

    honest = searched(write_event_log(tmp_path / "honest", plays), quick)
    spoilt = searched(write_event_log(tmp_path / "spoilt", known + garbage), quick)

    assert judged(spoilt) == judged(honest)


def test_an_interrupted_search_keeps_what_was_found(log: Path, quick: Path, tmp_path: Path) -> None:
    out, trials = tmp_path / "found.toml", tmp_path / "found.trials.json"
    options = ("--recipe", str(quick), "--trials", "100000", "--out", str(out))
    command = (sys.executable, "-m", "meshctl.app", "tune", str(log), *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as search:
        try:
            deadline_s = time.monotonic() + DEADLINE_S
            while not out.exists() and search.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.05)
            # It raises what Ctrl-C does, also below a shell that has its children ignore that.
            search.send_signal(signal.SIGTERM)
            said, complaint = search.communicate(timeout=DEADLINE_S)
        finally:
            search.kill()

    assert search.returncode == INTERRUPTED, complaint.decode()
    assert b"interrupted" in complaint
    found = json.loads(trials.read_text())
    assert 1 <= len(found["trials"]) < found["asked_trials"] == 100_000
    assert f"best of {len(found['trials'])} trials".encode() in said
    best = found["trials"][found["best"]]
    assert to_json(read_recipe(str(out)))["forest"].items() >= best["settings"].items()
    assert {path.name for path in tmp_path.iterdir()} == {out.name, trials.name}


@pytest.mark.parametrize(
    ("given", "status", "named"),
    [
        (("--trials", "0"), 2, "--trials"),
        (("--seed", "-1"), 2, "--seed"),
        (("--timeout-s", "nan"), 2, "--timeout-s"),
        (("--recipe", "nowhere"), 1, "error: nowhere cannot be read"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_it_begins(
    log: Path, tmp_path: Path, given: tuple[str, str], status: int, named: str
) -> None:
    refused = run(log, *given, "--out", tmp_path / "found.toml")

    assert refused.exit_code == status
    assert named in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_log_that_is_too_small_is_refused_and_nothing_written(tmp_path: Path) -> None:
    few = [Play(f"user-{user}", f"item-{n}") for user in range(5) for n in range(3)]
    small = write_event_log(tmp_path / "log", few, order="position")

    refused = run(small, "--out", tmp_path / "found.toml")

    assert refused.exit_code == 1
    assert "error: no candidate of any user was played after a training cut" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_folder_that_is_no_log_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "--out", tmp_path / "found.toml")

    assert refused.exit_code == 1
    assert f"error: {tmp_path} is not a log directory" in refused.stderr
