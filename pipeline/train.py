"""Train: from a log directory to a published bundle, in named steps."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from meshkit.bundles import Bundle, BundleError, BundleStore
from pipeline.bundle_report import REPORT_FILE, judge, report_text
from pipeline.cuts import Cut, Cuts, cut_log
from pipeline.evaluate import EvaluationError, MethodQuality, evaluate, refuse_window
from pipeline.event_log import EventLog, LogError, read_event_log
from pipeline.forest_files import write_forest
from pipeline.offline_mesh import OfflineMesh
from pipeline.probes import write_probes
from pipeline.progress import MeasuredStep, MeasuredSteps, Progress
from pipeline.promotion import Promotion
from pipeline.quality.cases import cases_after, sample
from pipeline.quality.evaluation import Evaluation, Subject, evaluate_bundle
from pipeline.recipe import DEFAULT, Recipe, to_json
from pipeline.tables import Tables, build_tables
from pipeline.train_ranker import (
    MAX_GROUPS,
    MIN_HISTORY,
    Group,
    Ranker,
    collect_groups,
    train_ranker,
    users_of,
)
from pipeline.verify_bundle import verify
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.adapters.scoring_model import model_of
from services.ranker.domain.features import FEATURE_GROUPS, feature_names

LIBRARIES = ("annoy", "implicit", "lightgbm", "numpy")
MAX_TESTED_USERS = 10_000
AS_OF_THE_TEST_CUT = (
    "asked of tables as of training's test cut; those that were published know the whole log"
)

Holdout = Literal["none", "last", "week"]


@dataclass(frozen=True, slots=True)
class Report:
    """What the evaluation found."""

    cuts: str
    """How the log was cut."""
    users: int
    """Users that were evaluated: at least `MIN_HISTORY` plays before the cut, a new item after."""
    methods: tuple[MethodQuality, ...]
    notes: tuple[str, ...]
    """What a reader of the figures must know."""
    recipe: Recipe = DEFAULT
    trees: int = 0
    """Trees of the model; 0 where nothing was trained."""
    learning_curve: tuple[float, ...] = ()
    """LightGBM's NDCG@10 on the newest training cut after each tree, as far as they were grown to
    find `trees`; among the candidates that training keeps, so not comparable with `methods`."""
    steps: tuple[MeasuredStep, ...] = field(default=(), compare=False)
    """What training took, up to writing the bundle; no two trainings are alike in it."""
    evaluation: Evaluation | None = None
    """What `meshctl evaluate` finds at the test cut, if it was asked for; without a version, which
    is not known while it is written."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        evaluation = {"evaluation": self.evaluation.to_json()} if self.evaluation else {}
        return {
            "cuts": self.cuts,
            "users": self.users,
            "min_history": MIN_HISTORY,
            "methods": [method.to_json() for method in self.methods],
            "notes": list(self.notes),
            "recipe": to_json(self.recipe),
            "trees": self.trees,
            "learning_curve": list(self.learning_curve),
            "steps": [step.to_json() for step in self.steps],
            **evaluation,
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of training."""

    bundle: Bundle
    report: Report
    promotion: Promotion
    """Whether the bundle is current now, and why."""
    location: str
    """The store that it was published in."""


def train(
    directory: Path,
    store: BundleStore,
    *,
    holdout: Holdout,
    seed: int,
    now: datetime,
    progress: Progress,
    recipe: Recipe = DEFAULT,
    evaluates: bool = False,
) -> Trained:
    """Train on a log directory, publish the bundle and promote it if it is fit.

    The ranker learns from the training cuts and is evaluated at the test cut. What is published
    has every table rebuilt on the whole log, or as of the test cut with a holdout. With
    `evaluates` its report also holds what `meshctl evaluate` finds at the test cut. It becomes
    current unless it ranks worse than its parent (`pipeline.promotion`). Raises LogError or
    LogDirectoryError for a log that cannot be trained on, and BundleError when it cannot be
    published.
    """
    measured = MeasuredSteps(progress)
    with measured.step("reading the log"):
        log = read_event_log(directory)
        cuts = cut_log(log, seed=seed, recipe=recipe)
        check_holdout(holdout, log.order)
    course = Course(log, cuts, seed, measured, recipe)
    ranker = course.train_ranker()
    tested = course.tables_at(cuts.test, "tables as of the test cut")
    report = course.report_on(tested, ranker)
    if evaluates:
        report = course.examine(tested, ranker, report, holdout=holdout)
    tables = tested
    if holdout == "none":
        tables = course.tables_at(cuts.whole, "tables of the whole log")
    with progress.step("publishing"):
        report = replace(report, steps=tuple(measured.taken))
        bundle = add_bundle(store, tables, ranker.model_text, report, now=now)
        promotion = judge(store, bundle)
        if promotion.is_allowed:
            store.promote(bundle.version, expected=bundle.manifest.parent)
    return Trained(bundle, report, promotion, store.location)


def check_holdout(holdout: Holdout, order: str) -> None:
    """Raise LogError when a log of this order cannot hold that back."""
    fits = {"none": True, "week": order == "time", "last": order != "time"}
    if not fits[holdout]:
        held = "its last plays" if holdout == "last" else "a week"
        raise LogError(
            f"--holdout {holdout}: a log with order {order!r} cannot hold back {held}; use "
            f"--holdout {'week' if order == 'time' else 'last'}"
        )


@dataclass(frozen=True, slots=True)
class Course:
    """One training run over one log."""

    log: EventLog
    cuts: Cuts
    seed: int
    progress: Progress
    recipe: Recipe = DEFAULT

    def tables_at(self, cut: Cut, description: str) -> Tables:
        """Return the tables as of `cut`."""
        with self.progress.step(description):
            return build_tables(
                cut.before,
                self.log,
                as_of_s=cut.as_of_s,
                seed=self.seed,
                recipe=self.recipe,
            )

    def train_ranker(self) -> Ranker:
        """Return a ranker trained on the candidates of every training cut."""
        groups = self.training_groups()
        with self.progress.step("training the ranker"):
            return train_ranker(groups, seed=self.seed, recipe=self.recipe)

    def training_groups(self) -> list[list[Group]]:
        """Return what the ranker learns from at every training cut, newest first."""
        return [
            self._groups_at(cut, f"training cut {number} of {len(self.cuts.training)}")
            for number, cut in enumerate(self.cuts.training, start=1)
        ]

    def report_on(self, tables: Tables, ranker: Ranker) -> Report:
        """Return the quality of a ranker, and how it was grown."""
        report = self.evaluate(tables, ranker.model_text)
        judged = ranker.judged
        return replace(report, trees=judged.trees, learning_curve=judged.curve)

    def evaluate(self, tables: Tables, model_text: str) -> Report:
        """Return the quality of the model and of everything that it is compared with."""
        refuse_window(tables.facts, self.cuts.test.after.times_s)
        model = model_of(model_text, feature_names())
        with TemporaryDirectory(prefix="recmesh-") as scratch:
            mesh = OfflineMesh.over(tables, Path(scratch))
            users = users_of(
                mesh, self.cuts.test, self.log.user_keys, limit=MAX_TESTED_USERS, seed=self.seed
            )
            methods = evaluate(mesh, model, self.progress.track(users, "evaluating"))
        return Report(self.cuts.description, len(users), methods, tuple(self._notes()), self.recipe)

    def examine(
        self, tables: Tables, ranker: Ranker, report: Report, *, holdout: Holdout
    ) -> Report:
        """Return the report with an evaluation as of the test cut, or a note why there is none."""
        model = model_of(ranker.model_text, feature_names())
        try:
            cases = sample(cases_after(tables, self.log), MAX_TESTED_USERS, seed=self.seed)
            with TemporaryDirectory(prefix="recmesh-") as scratch:
                mesh = OfflineMesh.over(tables, Path(scratch))
                found = evaluate_bundle(
                    Subject("", mesh, model, ranker.model_text, report.to_json()),
                    cases,
                    without=(),
                    seed=self.seed,
                    track=lambda asked: self.progress.track(asked, "evaluating every part"),
                )
        except EvaluationError as exc:
            return replace(report, notes=(*report.notes, f"no evaluation of every part: {exc}"))
        if holdout == "none":
            found = replace(found, notes=(*found.notes, AS_OF_THE_TEST_CUT))
        return replace(report, evaluation=found)

    def _groups_at(self, cut: Cut, description: str) -> list[Group]:
        tables = self.tables_at(cut, f"{description}: tables")
        with TemporaryDirectory(prefix="recmesh-") as scratch:
            mesh = OfflineMesh.over(tables, Path(scratch))
            users = users_of(mesh, cut, self.log.user_keys, limit=MAX_GROUPS, seed=self.seed)
            tracked = self.progress.track(users, f"{description}: candidates and features")
            return list(collect_groups(mesh, tracked, seed=self.seed, recipe=self.recipe))

    def _notes(self) -> Iterable[str]:
        yield "lists leave out what the user has played; targets are items not played before"
        yield "requests are made without a market, as by `meshctl recommend --users`"
        if self.log.order == "none":
            yield "the log has no order: recency features are off and the holdout is random"
        if self.log.unplayed_items:
            yield f"{self.log.unplayed_items} items of the items table were never played"


def publish(
    store: BundleStore, tables: Tables, model_text: str, report: Report, *, now: datetime
) -> Bundle:
    """Add a bundle to the store and make it current, whatever its report says.

    Raises BundleError for a bundle that does not pass verification.
    """
    bundle = add_bundle(store, tables, model_text, report, now=now)
    store.promote(bundle.version)
    return bundle


def add_bundle(
    store: BundleStore, tables: Tables, model_text: str, report: Report, *, now: datetime
) -> Bundle:
    """Write tables, model, report and probes as a bundle and verify it; it is not yet current.

    Raises BundleError for a bundle that does not pass: it stays in the store, never promoted.
    """
    facts = {
        **tables.facts.to_json(),
        "feature_schema": feature_schema(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }

    def write(directory: Path) -> None:
        tables.write(directory)
        (directory / MODEL_FILE).write_text(model_text)
        write_forest(directory, model_text)
        (directory / REPORT_FILE).write_text(report_text(report.to_json()))
        write_probes(directory, facts)

    bundle = store.publish(write, facts, now=now, promote=False)
    verdict = verify(bundle.path)
    if not verdict.is_sound:
        raise BundleError(f"{bundle.version} was published but not promoted: {verdict.reason}")
    return bundle


def feature_schema() -> list[dict[str, Any]]:
    """Return name, unit and missing value (null for NaN) of every feature, in column order."""
    features = (feature for group in FEATURE_GROUPS for feature in group.features)
    return [
        {**asdict(feature), "missing": None if isnan(feature.missing) else feature.missing}
        for feature in features
    ]
