"""Training, from a log directory to a published bundle."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import lightgbm as lgb
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from meshctl.train import train as train_command
from meshkit.bundles import Bundle, open_store
from pipeline.bundle_report import REPORT_FILE, report_of
from pipeline.cuts import WINDOW_S, Cuts, cut_log
from pipeline.evaluate import EvaluationError
from pipeline.event_log import LogError, read_event_log
from pipeline.log_directory import Order
from pipeline.metrics import METRICS
from pipeline.recipe import read_recipe, to_json
from pipeline.synth.settings import END_S
from pipeline.train import AS_OF_THE_TEST_CUT, Course
from pipeline.train_ranker import Judged, Ranker
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.domain.features import feature_names
from signals.bundle import Histories, ItemKeys
from signals.bundle_facts import BundleFacts
from signals.keys import item_key
from tests.integration.small_world import NOW, Quiet, TrainedWorld, train_on
from tests.unit.event_logs import Play, write_event_log

METHODS = ["ranked", "merge order", "ann", "similar", "trending", "popularity"]


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, arguments)


def plays_of(log: Path, columns: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as db:
        db.read_parquet(str(log / "events.parquet")).create_view("events")
        return db.sql(f"SELECT {columns} FROM events ORDER BY user_id, position").fetchall()  # noqa: S608 - ours


def without_times(world: TrainedWorld, out: Path, order: Order, users: int = 120) -> Path:
    """Write a log of the world's first users that keeps the order of its plays at most."""
    plays = [Play(str(user), str(item)) for user, item in plays_of(world.log, "user_id, item_id")]
    kept = set(sorted({play.user for play in plays})[:users])
    return write_event_log(out, [play for play in plays if play.user in kept], order=order)


def test_training_publishes_a_bundle_that_opens(trained_world: TrainedWorld) -> None:
    bundle = open_store(trained_world.bundles).open()

    assert bundle == trained_world.trained.bundle
    assert {path.name for path in bundle.path.iterdir()} == {
        *bundle.manifest.files,
        "manifest.json",
    }
    assert len(bundle.manifest.files) > 25
    model = LightgbmModel.open(bundle.path, feature_names())
    scores = model.score(np.zeros((2, len(feature_names())), dtype=np.float32))
    assert np.isfinite(scores).all()


def test_the_manifest_says_what_it_was_trained_on(trained_world: TrainedWorld) -> None:
    manifest = trained_world.trained.bundle.manifest
    log = read_event_log(trained_world.log)

    facts = BundleFacts.from_json(manifest.facts)

    assert (facts.events, facts.users) == (len(log.events), len(log.user_keys))
    assert facts.items == len(log.catalogue)
    assert facts.as_of_s == int(log.events.times_s.max()) + 1 <= END_S + 1
    assert facts.features == feature_names()
    assert [one["name"] for one in manifest.facts["feature_schema"]] == list(feature_names())
    assert set(manifest.facts["libraries"]) == {"annoy", "implicit", "lightgbm", "numpy"}


def test_the_report_compares_the_slate_with_each_of_its_parts(trained_world: TrainedWorld) -> None:
    report = trained_world.trained.report

    by_name = {method.method: method for method in report.methods}
    assert list(by_name) == METHODS
    assert report.users > 30
    for method in report.methods:
        figures = [getattr(method, metric) for metric in METRICS]
        assert all(0 < figure <= 1 for figure in [*figures, method.catalogue_coverage])
        assert method.recall_20 <= method.recall_100
        assert 0 < method.ndcg_10_ci95 < 0.5
    assert by_name["ranked"].ndcg_10 > by_name["popularity"].ndcg_10
    assert by_name["ranked"].catalogue_coverage > by_name["popularity"].catalogue_coverage
    written = json.loads((trained_world.trained.bundle.path / REPORT_FILE).read_text())
    assert written == {**report.to_json(), "sha256": written["sha256"]}


def test_the_report_says_how_the_forest_was_grown_and_what_the_steps_took(
    trained_world: TrainedWorld,
) -> None:
    trained = trained_world.trained
    model = lgb.Booster(model_file=str(trained.bundle.path / MODEL_FILE))

    report = report_of(trained.bundle)

    assert report["trees"] == model.num_trees() <= len(report["learning_curve"])
    assert all(0 < at <= 1 for at in report["learning_curve"])
    steps = {step["description"]: step for step in report["steps"]}
    training = len(read_cuts(trained_world.log).training)
    assert {"reading the log", "training the ranker", "evaluating"} < steps.keys()
    assert f"training cut {training} of {training}: candidates and features" in steps
    assert len(steps) == 5 + 2 * training
    assert all(step["seconds"] >= 0 for step in steps.values())
    peaks = [step["peak_mib"] for step in steps.values()]
    assert peaks == sorted(peaks)
    assert peaks[0] > 10


def read_cuts(log: Path) -> Cuts:
    return cut_log(read_event_log(log), seed=1)


def test_equal_input_and_seed_give_equal_content(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    again = train_on(trained_world.log, tmp_path / "bundles")

    first = trained_world.trained
    assert again.report == first.report
    assert contents_of(again.bundle) == contents_of(first.bundle)
    assert again.report.steps != first.report.steps
    assert again.bundle.manifest.content_sha256 == first.bundle.manifest.content_sha256


def contents_of(bundle: Bundle) -> dict[str, str]:
    files = bundle.manifest.files
    return {name: file.sha256 for name, file in files.items() if name != REPORT_FILE}


def test_a_holdout_week_is_in_no_published_history(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    trained = train_on(trained_world.log, tmp_path / "bundles", holdout="week")

    path = trained.bundle.path
    facts = BundleFacts.from_json(trained.bundle.manifest.facts)
    histories, items = Histories.open(path), ItemKeys.open(path)
    whole = BundleFacts.from_json(trained_world.trained.bundle.manifest.facts)
    assert whole.as_of_s - WINDOW_S <= facts.as_of_s < whole.as_of_s
    assert histories.times_s.max() < facts.as_of_s
    plays = plays_of(trained_world.log, "user_id, item_id, timestamp")
    known = [(user, item) for user, item, at_s in plays if int(str(at_s)) < facts.as_of_s]
    assert 0 < len(known) < len(plays)
    assert len(histories.rows) == len(known)
    for user in {user for user, _ in known[:200]}:
        rows, _ = histories.of(item_key(str(user)))
        own = [str(item) for who, item in known if who == user]
        assert rows.tolist() == items.rows_of_ids(own).tolist()
    assert trained.report == trained_world.trained.report


@pytest.mark.parametrize("order", ["position", "none"])
def test_a_log_without_times_trains(
    trained_world: TrainedWorld, tmp_path: Path, order: Order
) -> None:
    log = without_times(trained_world, tmp_path / "log", order)

    trained = train_on(log, tmp_path / "bundles", holdout="last")

    assert [method.method for method in trained.report.methods] == METHODS
    assert 0 < trained.report.users <= 120
    assert open_store(tmp_path / "bundles").open() == trained.bundle
    facts = BundleFacts.from_json(trained.bundle.manifest.facts)
    assert (facts.order, facts.as_of_s) == (order, 0)
    assert facts.events == len(read_event_log(log).events) - 120  # a play of each user is held back
    assert any("no order" in note for note in trained.report.notes) == (order == "none")


@pytest.mark.parametrize(
    ("order", "holdout", "message"),
    [
        ("time", "last", "a log with order 'time' cannot hold back its last plays; use "),
        ("position", "week", "a log with order 'position' cannot hold back a week; use "),
        ("none", "week", "a log with order 'none' cannot hold back a week; use "),
    ],
)
def test_a_holdout_that_the_log_cannot_give_is_refused(
    trained_world: TrainedWorld, tmp_path: Path, order: Order, holdout: str, message: str
) -> None:
    log = trained_world.log
    if order != "time":
        log = without_times(trained_world, tmp_path / "log", order, users=10)

    bundles = str(tmp_path / "bundles")
    refused = run(str(log), "--bundles", bundles, "--holdout", holdout)

    instead = "week" if holdout == "last" else "last"
    assert refused.exit_code == 1
    assert f"error: --holdout {holdout}: {message}--holdout {instead}" in refused.stderr
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize("order", ["time", "position", "none"])
@pytest.mark.parametrize(
    ("users", "plays_each", "message"),
    [
        (0, 0, "the log has 0 events of 0 users: too few to hold any back"),
        (1, 1, "the log has 1 events of 1 users: too few to hold any back"),
        (5, 3, "no candidate of any user was played after a training cut"),
    ],
)
def test_a_log_with_too_few_events_is_refused_and_nothing_published(
    tmp_path: Path, order: Order, users: int, plays_each: int, message: str
) -> None:
    plays = [
        Play(f"user-{user}", f"item-{n}", END_S + n * 86_400 if order == "time" else None)
        for user in range(users)
        for n in range(plays_each)
    ]
    log = write_event_log(tmp_path / "log", plays, order=order)

    with pytest.raises(LogError, match=message):
        train_on(log, tmp_path / "bundles")

    assert not (tmp_path / "bundles").exists()


def test_the_command_prints_the_report_and_where_the_bundle_is(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    log = without_times(trained_world, tmp_path / "log", "position", users=40)

    trained = run(str(log), "--bundles", str(tmp_path / "bundles"))

    assert trained.exit_code == 0, trained.output
    version = open_store(tmp_path / "bundles").current()
    assert f"published {version} in" in trained.stdout
    assert "promoted: it is the first bundle" in trained.stdout
    for method in METHODS:
        assert method in trained.stdout


def test_a_recipe_decides_the_sources_the_features_and_the_forest(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    log = without_times(trained_world, tmp_path / "log", "position", users=40)
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        'sources = ["next", "together"]\nfeatures = ["sources", "next"]\n'
        "[forest]\nleast_trees = 3\nmost_trees = 3\nmin_data_in_leaf = 5\n"
    )

    trained = run(str(log), "--bundles", str(tmp_path / "bundles"), "--recipe", str(recipe))

    assert trained.exit_code == 0, trained.output
    bundle = open_store(tmp_path / "bundles").open()
    assert BundleFacts.from_json(bundle.manifest.facts).sources == ("next", "together")
    report = json.loads((bundle.path / REPORT_FILE).read_text())
    assert report["recipe"] == to_json(read_recipe(str(recipe)))
    methods = [method["method"] for method in report["methods"]]
    assert methods == ["ranked", "merge order", "next", "together", "popularity"]
    model = lgb.Booster(model_file=str(bundle.path / MODEL_FILE))
    used = {name for name, gain in zip(feature_names(), gains(model), strict=True) if gain > 0}
    assert model.num_trees() == 3
    assert used
    assert all(name.startswith(("next_", "together_rank", "together_score")) for name in used)


def gains(model: lgb.Booster) -> list[float]:
    return [float(gain) for gain in model.feature_importance("gain")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cuts = 1", r"cuts is 1; a whole number from 2 to 20 is allowed"),
        ("sources = []", r"sources is \[\]; a list of some of ann, "),
        (None, r"cannot be read: No such file or directory; the project's own are 30music, "),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused_and_nothing_published(
    trained_world: TrainedWorld, tmp_path: Path, text: str | None, fault: str
) -> None:
    recipe = tmp_path / "mine.toml"
    if text is not None:
        recipe.write_text(text)

    bundles = tmp_path / "bundles"
    refused = run(str(trained_world.log), "--bundles", str(bundles), "--recipe", str(recipe))

    assert refused.exit_code == 1
    assert re.search(rf"error: {re.escape(str(recipe))}:? {fault}", refused.stderr)
    assert not bundles.exists()


def test_a_bundle_that_ranks_worse_than_the_current_one_is_published_but_not_promoted(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    log = without_times(trained_world, tmp_path / "log", "position", users=40)
    store = open_store(tmp_path / "bundles")
    best = {"methods": [{"method": "ranked", "ndcg_10": 2.5, "ndcg_10_ci95": 0.01}]}

    def write(directory: Path) -> None:
        (directory / REPORT_FILE).write_text(json.dumps(best))

    served = store.publish(write, {}, now=NOW - timedelta(days=365))

    trained = run(str(log), "--bundles", str(tmp_path / "bundles"))

    assert trained.exit_code == 0, trained.output
    assert store.current() == served.version
    (added,) = set(store.versions()) - {served.version}
    assert store.open(added).manifest.parent == served.version
    assert f"published {added} in" in trained.stdout
    assert "not promoted: NDCG@10 0." in trained.stdout
    assert f"meshctl bundle promote {added} --force" in trained.stdout


def test_the_command_names_a_folder_that_is_no_log(tmp_path: Path) -> None:
    refused = run(str(tmp_path))

    assert refused.exit_code == 1
    assert f"error: {tmp_path} is not a log directory" in refused.stderr


def test_tables_that_know_the_targets_are_not_evaluated(trained_world: TrainedWorld) -> None:
    log = read_event_log(trained_world.log)
    cuts = cut_log(log, seed=1)
    course = Course(log, cuts, 1, Quiet())
    model_text = (trained_world.trained.bundle.path / MODEL_FILE).read_text()
    tables = course.tables_at(cuts.whole, "")

    with pytest.raises(EvaluationError, match="before the tables' end"):
        course.evaluate(tables, model_text)


def test_an_evaluation_says_that_it_is_of_the_test_cut_or_why_there_is_none(
    trained_world: TrainedWorld,
) -> None:
    log, cuts = read_event_log(trained_world.log), read_cuts(trained_world.log)
    course = Course(log, cuts, 1, Quiet())
    text = (trained_world.trained.bundle.path / MODEL_FILE).read_text()
    ranker, report = Ranker(text, Judged(1, (0.5,))), trained_world.trained.report
    tested, whole = course.tables_at(cuts.test, ""), course.tables_at(cuts.whole, "")

    rebuilt = course.examine(tested, ranker, report, holdout="none").evaluation
    held_out = course.examine(tested, ranker, report, holdout="week").evaluation
    refused = course.examine(whole, ranker, report, holdout="none")

    assert rebuilt is not None
    assert held_out is not None
    assert rebuilt == replace(held_out, notes=(*held_out.notes, AS_OF_THE_TEST_CUT))
    assert rebuilt.users == report.users
    assert refused.evaluation is None
    assert refused.notes[:-1] == report.notes
    assert refused.notes[-1].startswith("no evaluation of every part: the log's last event is of")
