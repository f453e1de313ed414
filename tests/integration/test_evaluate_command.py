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
