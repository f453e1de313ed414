"""Evaluating the tiny bundle: exact search, what is left out, the whole evaluation, its page."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshctl.evaluate import open_subject
from meshkit.bundles import Bundle
from pipeline.evaluate import EvaluationError, evaluate
from pipeline.metrics import METRICS
from pipeline.progress import MeasuredStep
from pipeline.quality.cases import Case
from pipeline.quality.curves import FeatureGain
from pipeline.quality.evaluation import Evaluation, Subject, evaluate_bundle
from pipeline.quality.exact import COSINE, ExactIndex, ExactSearch, unit
from pipeline.quality.observe import Observer
from pipeline.quality.page import page
from pipeline.quality.stored import evaluation_of
from pipeline.quality.tables import grids
from pipeline.quality.without import MaskedModel, Without, each_alone, group_names, together
from services.ranker.domain.features import FEATURE_GROUPS, feature_names
from signals.keys import item_key

VOID = {"meta", "br", "hr", "link", "img", "input"}


@pytest.fixture(scope="module")
def subject(small_bundle: Bundle) -> Subject:
    return open_subject(small_bundle)


@pytest.fixture(scope="module")
def cases(subject: Subject) -> list[Case]:
    """Every user, and two items that they have not played; and somebody without a history."""
    tables = subject.mesh.tables
    every_row = np.arange(tables.facts.items, dtype=np.uint32)
    new = (
        Case(key, np.setdiff1d(every_row, tables.histories.of(key)[0])[:2])
        for key in tables.histories.user_keys.tolist()
    )
    return [*new, Case(item_key("nobody"), every_row[3:5])]


@pytest.fixture(scope="module")
def evaluation(subject: Subject, cases: list[Case]) -> Evaluation:
    return evaluate_bundle(subject, cases, without=["ann", "similar"], seed=1)


def test_the_small_index_misses_next_to_nothing_of_exact_search(
    subject: Subject, cases: list[Case]
) -> None:
    search = ExactSearch.over(subject.mesh)

    for case in cases[:5]:
        history = subject.mesh.history(case.user_key)
        (served,) = (a for a in subject.mesh.ask_sources(history) if a.source == "ann")
        exact = search.answers(history)[COSINE]
        assert exact.tolist() == served.rows.tolist()


def test_exact_search_by_cosine_forgets_lengths_and_by_inner_product_does_not() -> None:
    long, near = np.array([2.0, 2.0]), np.array([1.0, 0.0])
    vectors = np.stack([long, near]).astype(np.float32)
    index = ExactIndex(np.array([7, 9], dtype=np.uint32), vectors)
    by_cosine = ExactIndex(index.rows, unit(vectors))
    asked = np.array([1.0, 0.1], dtype=np.float32)

    assert index.nearest(asked, 2).tolist() == [7, 9]
    assert by_cosine.nearest(asked, 2).tolist() == [9, 7]
    assert by_cosine.nearest(asked, 1).tolist() == [9]
    assert by_cosine.nearest(np.zeros(2, dtype=np.float32), 2).tolist() == []


def test_a_masked_group_is_missing_and_the_rest_as_it_was(subject: Subject) -> None:
    seen = []

    class Recording:
        scorer = "recording"

        def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(features)
            return features[:, 0]

    group = FEATURE_GROUPS[-1]
    given = np.ones((3, len(feature_names())), dtype=np.float32)

    MaskedModel.of(Recording(), frozenset({group_names()[-1]})).score(given)

    own = [feature_names().index(feature.name) for feature in group.features]
    missing = [feature.missing for feature in group.features]
    np.testing.assert_array_equal(seen[0][1, own], np.array(missing, dtype=np.float32))
    assert (np.delete(seen[0], own, axis=1) == 1).all()
    assert (given == 1).all()
    assert MaskedModel.of(subject.model, frozenset()) is subject.model


def test_a_source_that_is_left_out_proposes_nothing(subject: Subject, cases: list[Case]) -> None:
    everything = frozenset(subject.mesh.sources)
    observer = Observer.of(subject.mesh, subject.model, (Without("all", sources=everything),))

    observed = observer.observe(cases[0])

    assert len(observed.without["all"]) == 0
    assert len(observed.lists["ranked"]) > 0


def test_names_to_leave_out_are_sources_and_feature_groups() -> None:
    assert each_alone(["a"])[0].label == "source a"
    assert len(each_alone(["a", "b"])) == 2 + len(FEATURE_GROUPS)
    both = together(["a", group_names()[0]], ["a"])
    assert both == Without(both.label, frozenset({"a"}), frozenset({group_names()[0]}))
    with pytest.raises(EvaluationError, match=r"--without nothing: neither a source \(a\)"):
        together(["nothing"], ["a"])


def test_methods_are_measured_as_training_measures_them(
    subject: Subject, cases: list[Case], evaluation: Evaluation
) -> None:
    known = [(case.user_key, case.targets) for case in cases[:-1]]

    trained = evaluate(subject.mesh, subject.model, known)

    means = {each.method: each.metrics for each in evaluation.methods}
    for method in trained:
        for metric in METRICS:
            assert means[method.method][metric].mean == pytest.approx(getattr(method, metric))


def test_somebody_without_a_history_is_in_the_cohort_of_new_users_only(
    evaluation: Evaluation, cases: list[Case]
) -> None:
    assert (evaluation.users, evaluation.new_users) == (len(cases) - 1, 1)
    by_name = {cohort.name: cohort.users for cohort in evaluation.cohorts}
    assert by_name["new users"] == 1
    assert by_name["light users"] + by_name["heavy users"] == evaluation.users


def test_every_part_of_the_evaluation_is_there(subject: Subject, evaluation: Evaluation) -> None:
    sources = list(subject.mesh.sources)
    assert [each.source for each in evaluation.sources] == sources
    assert list(evaluation.losses) == [
        *(f"source {name}" for name in sources),
        *(f"features {name}" for name in group_names()),
        "ann and similar",
    ]
    assert sum(each.share for each in evaluation.fates) == pytest.approx(1.0)
    assert evaluation.approximations[0].search == "approximate"
    assert evaluation.approximations[0].overlap == pytest.approx(1.0)
    assert "merge order" in evaluation.slates
    assert len(evaluation.calibration) == 10


def test_the_evaluation_is_the_same_again_and_is_json(
    subject: Subject, cases: list[Case], evaluation: Evaluation
) -> None:
    again = evaluate_bundle(subject, cases, without=["ann", "similar"], seed=1)

    assert json.dumps(again.to_json()) == json.dumps(evaluation.to_json())


def written(evaluation: Evaluation) -> dict[str, Any]:
    text = json.dumps(evaluation.to_json())
    return dict(json.loads(text))


def test_an_evaluation_is_read_as_it_was_written(evaluation: Evaluation) -> None:
    whole = replace(
        evaluation, learning_curve=(0.5, 1.0), steps=(MeasuredStep("reading", 1.5, 20.0),), trees=2
    )
    bare = replace(evaluation, best_source=None, methods=(), cohorts=(), losses={}, slates={})

    for each in (evaluation, whole, bare):
        assert evaluation_of(written(each)) == each
        assert page(evaluation_of(written(each))) == page(each)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda one: one.pop("methods"), "evaluation lacks 'methods'"),
        (lambda one: one.update(more=1), "evaluation has unknown 'more'"),
        (lambda one: one.update(users="3"), "evaluation.users is '3', which is no part"),
        (lambda one: one.update(users=True), "evaluation.users is True, which"),
        (lambda one: one.update(users=3.5), "evaluation.users is 3.5, which"),
        (lambda one: one.update(notes=None), "evaluation.notes is None, which"),
        (lambda one: one.update(best_source=3), "evaluation.best_source is 3, which"),
        (
            lambda one: one["methods"][1]["metrics"]["ndcg_10"].update(low=None),
            "evaluation.methods[1].metrics.ndcg_10.low is None, which",
        ),
        (lambda one: one["fates"].insert(2, 4), "evaluation.fates[2] is 4, which"),
        (lambda one: one["slates"].update(x=[]), "evaluation.slates.x is [], which"),
    ],
)
def test_what_is_no_evaluation_is_refused_by_its_place(
    change: Callable[[dict[str, Any]], object], fault: str, evaluation: Evaluation
) -> None:
    value = written(evaluation)
    change(value)

    with pytest.raises(ValueError, match="^" + re.escape(fault)):
        evaluation_of(value)


def test_a_log_whose_items_are_mostly_unknown_is_doubted(
    subject: Subject, cases: list[Case], evaluation: Evaluation
) -> None:
    unknown = subject.mesh.tables.facts.items + np.arange(5, dtype=np.uint32)
    strange = [replace(cases[0], targets=np.append(cases[0].targets, unknown))]

    doubted = evaluate_bundle(subject, strange, without=(), seed=1)

    assert doubted.notes[0].startswith("71% of the new items are not in the bundle")
    assert not any("not in the bundle" in note for note in evaluation.notes)


def test_nobody_with_a_history_is_refused(subject: Subject, cases: list[Case]) -> None:
    with pytest.raises(EvaluationError, match="nobody to evaluate on"):
        evaluate_bundle(subject, cases[-1:], without=(), seed=1)


def test_every_row_of_every_table_has_a_cell_for_every_heading(evaluation: Evaluation) -> None:
    made = grids(evaluation)

    assert len(made) == 10
    assert {len(row) - len(grid.headings) for grid in made for row in grid.rows} == {0}


class Reader(HTMLParser):
    """Fails on a tag that is not closed in turn, and remembers what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_asks_nothing_of_the_network(evaluation: Evaluation) -> None:
    steps = (MeasuredStep("reading <the> log", 12.34, 1234.5),)
    curve = replace(evaluation, learning_curve=(0.1, 0.2, 0.15), trees=2, steps=steps)
    hostile = replace(curve, feature_gains=(FeatureGain("<script>alert(1)</script>", 1.0),))
    reader = Reader()

    reader.feed(page(hostile))

    assert reader.open == []
    assert reader.tags.count("svg") == 8
    assert "script" not in reader.tags
    assert "<script>alert(1)</script>" in reader.text
    for said in ("2 trees were kept", "reading <the> log", "12.3", "1,234"):
        assert said in reader.text
    names = {name for name, _ in reader.attributes}
    assert names.isdisjoint({"src", "href", "srcset", "action", "data"})
    assert not any("//" in value or "url(" in value for _, value in reader.attributes)
    assert "import" not in reader.text.partition("}")[0]


def test_the_page_holds_every_figure_of_the_tables(evaluation: Evaluation) -> None:
    text = page(evaluation)

    for grid in grids(evaluation):
        assert grid.title in text
        assert all(cell in text for row in grid.rows for cell in row[1:])


def test_a_page_without_some_parts_leaves_them_out(evaluation: Evaluation) -> None:
    assert "Approximate search" in page(evaluation)

    bare = replace(evaluation, calibration=(), fates=(), losses={}, approximations=())

    assert "Approximate search" not in page(bare)
