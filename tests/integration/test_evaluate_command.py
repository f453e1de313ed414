"""`meshctl evaluate`, on a bundle as training publishes it with a holdout."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshctl.app import command_line
from meshkit.bundles import open_store
from pipeline.cuts import cut_log
from pipeline.event_log import read_event_log
from pipeline.metrics import METRICS
from pipeline.tables import build_tables
from pipeline.train import publish
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from tests.integration.small_world import NOW, TrainedWorld
from tests.unit.event_logs import Play, write_event_log


@pytest.fixture(scope="module")
def held_out(trained_world: TrainedWorld, tmp_path_factory: pytest.TempPathFactory) -> TrainedWorld:
    """The small world as training with a holdout publishes it, with the model already trained."""
    bundles = tmp_path_factory.mktemp("held-out") / "bundles"
    whole, log = trained_world.trained, read_event_log(trained_world.log)
    cut = cut_log(log, seed=1).test
    tables = build_tables(cut.before, log, as_of_s=cut.as_of_s, seed=1)
    model_text = (whole.bundle.path / MODEL_FILE).read_text()
    bundle = publish(open_store(bundles), tables, model_text, whole.report, now=NOW)
    return TrainedWorld(trained_world.log, bundles, replace(whole, bundle=bundle))


def evaluate(world: TrainedWorld, *arguments: str, against: Path | None = None) -> Result:
    version, log = world.trained.bundle.version, against or world.log
    fixed = (version, "--bundles", str(world.bundles), "--against", str(log))
    # A wide terminal: tables must not break figures.
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(command_line(["evaluate"]), ["evaluate", *fixed, *arguments])


def test_a_held_out_week_is_measured_as_training_measured_it(
    held_out: TrainedWorld, tmp_path: Path
) -> None:
    page, figures = tmp_path / "new" / "page.html", tmp_path / "figures.json"

    result = evaluate(held_out, "--report", str(page), "--json", str(figures))

    assert result.exit_code == 0, result.stderr
    found = json.loads(figures.read_text())
    report = held_out.trained.report
    assert found["users"] == report.users
    means = {each["method"]: each["metrics"] for each in found["methods"]}
    for method in report.methods:
        for metric in METRICS:
            assert means[method.method][metric]["mean"] == pytest.approx(getattr(method, metric))
    ranked = f"{report.methods[0].ndcg_10:.4f}"
    assert ranked in result.stdout
    assert ranked in page.read_text()
    for name in found["losses"]:
        assert name in result.stdout


QUICK = """
time_cuts = 4
[forest]
least_trees = 3
most_trees = 3
min_data_in_leaf = 5
"""


@pytest.fixture(scope="module")
def evaluated(trained_world: TrainedWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of `meshctl train --evaluate` with a holdout."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "quick.toml").write_text(QUICK)
    options = ["--recipe", str(folder / "quick.toml"), "--bundles", str(folder / "bundles")]
    done = run("train", str(trained_world.log), *options, "--holdout", "week", "--evaluate")
    assert done.exit_code == 0, done.stderr
    assert "see it: meshctl evaluate " in done.stdout
    return folder / "bundles"


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(command_line([arguments[0]]), list(arguments))


def test_what_training_kept_is_what_is_found_anew(
    evaluated: Path, trained_world: TrainedWorld, tmp_path: Path
) -> None:
    version, bundles = open_store(evaluated).current(), str(evaluated)
    asked = {"stored": [], "anew": ["--against", str(trained_world.log)]}

    found = {}
    for name, how in asked.items():
        files = [tmp_path / f"{name}.json", tmp_path / f"{name}.html"]
        options = ["--json", str(files[0]), "--report", str(files[1])]
        done = run("evaluate", version, "--bundles", bundles, *how, *options)
        assert done.exit_code == 0, done.stderr
        found[name] = (done.stdout, *(file.read_text() for file in files))

    assert found["stored"] == found["anew"]
    figures = json.loads(found["stored"][1])
    assert figures["version"] == version
    assert figures["trees"] == 3
    assert len(figures["learning_curve"]) >= 3
    assert "evaluating every part" in [step["description"] for step in figures["steps"]]
    assert "Learning curve" in found["stored"][2]


def test_a_bundle_that_was_not_evaluated_says_how_it_can_be(held_out: TrainedWorld) -> None:
    version = held_out.trained.bundle.version

    result = run("evaluate", version, "--bundles", str(held_out.bundles))

    assert result.exit_code == 1
    assert f"{version} holds no evaluation: train with --evaluate" in result.stderr
    assert "--against DIR" in result.stderr


@pytest.mark.parametrize("option", [("--without", "ann"), ("--users", "5"), ("--seed", "2")])
def test_what_asks_anew_needs_a_log(evaluated: Path, option: tuple[str, str]) -> None:
    version = open_store(evaluated).current()

    result = run("evaluate", version, "--bundles", str(evaluated), *option)

    assert result.exit_code == 1
    assert "ask a bundle anew: --against DIR" in result.stderr


def test_a_bundle_may_be_named_by_its_directory(held_out: TrainedWorld) -> None:
    runner, path = CliRunner(), held_out.trained.bundle.path
    arguments = ["evaluate", str(path), "--against", str(held_out.log), "--users", "20"]

    result = runner.invoke(command_line(["evaluate"]), arguments)

    assert result.exit_code == 0, result.stderr
    assert "Quality" in result.stdout


def test_a_bundle_without_a_holdout_is_refused(trained_world: TrainedWorld, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    result = evaluate(trained_world, "--report", str(page))

    assert result.exit_code == 1
    assert "without a holdout" in result.stderr
    assert "--holdout week" in result.stderr
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--without", "nobody"], "--without nobody: neither a source"),
        (["--against", "missing"], "missing is not a log directory"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    held_out: TrainedWorld, arguments: list[str], message: str
) -> None:
    result = evaluate(held_out, *arguments)

    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_log_of_strangers_is_refused(held_out: TrainedWorld, tmp_path: Path) -> None:
    log = write_event_log(tmp_path / "log", [Play("stranger", "song", 2_000_000_000)])

    result = evaluate(held_out, against=log)

    assert result.exit_code == 1
    assert "none of the 1 users" in result.stderr


def test_an_unknown_version_is_refused(held_out: TrainedWorld) -> None:
    arguments = ["evaluate", "20200101T000000Z-000000000000", "--bundles", str(held_out.bundles)]
    runner = CliRunner()

    result = runner.invoke(command_line(["evaluate"]), [*arguments, "--against", str(held_out.log)])

    assert result.exit_code == 1
    assert "20200101T000000Z-000000000000" in result.stderr
