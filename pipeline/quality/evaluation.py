"""Evaluation: a bundle against what its users did next, as one value that prints and plots."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import MERGED, POPULARITY, RANKED, EvaluationError
from pipeline.offline_mesh import OfflineMesh
from pipeline.progress import MeasuredStep
from pipeline.quality.bootstrap import Difference
from pipeline.quality.cases import Case
from pipeline.quality.cohorts import Cohort, item_cohorts, user_cohorts
from pipeline.quality.curves import (
    Decile,
    FeatureGain,
    calibration,
    feature_gains,
    gain_curve,
    learning_curve,
    steps_taken,
    trees_kept,
)
from pipeline.quality.exact import ANN
from pipeline.quality.fates import Fate, SourceRecall, fates, recall_of, source_recalls
from pipeline.quality.observe import PAGE, PAGE_SIZE, Observation, Observer
from pipeline.quality.scoreboard import (
    Comparison,
    MethodScore,
    best_source,
    comparisons,
    losses,
    qualities_of,
    scores,
)
from pipeline.quality.slates import ItemFacts, SlateFacts, mean_popularity, slate_facts
from pipeline.quality.without import Without, each_alone, together
from pipeline.tables import Tables
from pipeline.train_ranker import MIN_HISTORY
from services.ranker.domain.values import ScoringModel

MOSTLY = 0.5
"""Share of unknown items from which on a log may be another one with ids that look alike."""

Track = Callable[[Sequence[Case]], Iterable[Case]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated."""

    version: str
    mesh: OfflineMesh
    model: ScoringModel
    model_text: str
    report: Mapping[str, Any]
    """What training reported; may be empty."""


@dataclass(frozen=True, slots=True)
class Approximation:
    """What the `ann` source finds of the targets, searched in one way."""

    search: str
    recall: float
    """Mean over users, in everything that it answers."""
    overlap: float
    """Mean share of this answer that the approximate one has too."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was found; means are over users with a history unless it says otherwise."""

    version: str
    users: int
    """Users with at least `min_history` plays in the bundle and a new item after it."""
    min_history: int
    new_users: int
    """Users with fewer plays and a new item: in the cohort of new users only."""
    seed: int
    methods: tuple[MethodScore, ...]
    best_source: str | None
    comparisons: tuple[Comparison, ...]
    cohorts: tuple[Cohort, ...]
    slates: Mapping[str, SlateFacts]
    """By method, of pages of `PAGE_SIZE`."""
    sources: tuple[SourceRecall, ...]
    fates: tuple[Fate, ...]
    approximations: tuple[Approximation, ...]
    """The approximate search first; empty for a mesh without `ann`."""
    losses: Mapping[str, Mapping[str, Difference]]
    """By label of what was left out, by metric: what the ranked list loses without it."""
    calibration: tuple[Decile, ...]
    gain_curves: Mapping[str, tuple[float, ...]]
    """By method: share of the targets among the first 1, 2, ... places."""
    feature_gains: tuple[FeatureGain, ...]
    learning_curve: tuple[float, ...]
    """NDCG@10 after each tree of training; empty where the report of training has none."""
    trees: int
    """Those that training kept; 0 where its report does not say."""
    steps: tuple[MeasuredStep, ...]
    """What training took; empty where its report does not say."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def evaluate_bundle(
    subject: Subject,
    cases: Sequence[Case],
    *,
    without: Sequence[str],
    seed: int,
    track: Track = lambda cases: cases,
) -> Evaluation:
    """Ask for every case and return what came of it.

    `without` names sources and feature groups to leave out together, besides each alone. Raises
    EvaluationError for a name that is neither, and when no case has enough history.
    """
    observer = Observer.of(subject.mesh, subject.model, _left_out(subject.mesh, without))
    everybody = [observer.observe(case) for case in track(cases)]
    known = [each for each in everybody if each.plays >= MIN_HISTORY]
    if not known:
        raise EvaluationError(
            f"none of the {len(everybody)} users who come after the bundle has {MIN_HISTORY} "
            "plays in it: there is nobody to evaluate on"
        )
    sources, n_items = tuple(subject.mesh.sources), subject.mesh.tables.facts.items
    items = item_facts(subject.mesh.tables)
    targets = [each.targets for each in known]
    qualities = qualities_of([each.lists for each in known], targets)
    best = best_source(qualities, sources)
    return Evaluation(
        version=subject.version,
        users=len(known),
        min_history=MIN_HISTORY,
        new_users=len(everybody) - len(known),
        seed=seed,
        methods=scores(qualities, seed=seed),
        best_source=best,
        comparisons=comparisons(qualities, sources, seed=seed),
        cohorts=(
            *user_cohorts(everybody, min_history=MIN_HISTORY, seed=seed),
            *item_cohorts(known, items.share_rank, seed=seed),
        ),
        slates=_slates(known, items),
        sources=source_recalls(known),
        fates=fates(known, n_items),
        approximations=_approximations(known),
        losses=losses(known, qualities, seed=seed),
        calibration=calibration(known),
        gain_curves={
            method: gain_curve([each.lists[method] for each in known], targets)
            for method in dict.fromkeys([RANKED, MERGED, best or MERGED, POPULARITY])
        },
        feature_gains=feature_gains(subject.model_text),
        learning_curve=learning_curve(subject.report),
        trees=trees_kept(subject.report),
        steps=steps_taken(subject.report),
        notes=tuple(_notes(subject, known)),
    )


def item_facts(tables: Tables) -> ItemFacts:
    """Return what pages are judged by."""
    return ItemFacts(
        share=np.asarray(tables.stats.share),
        share_rank=np.asarray(tables.stats.share_rank),
        artists=np.asarray(tables.traits.artists),
        n_plays=tables.facts.events,
    )


def _left_out(mesh: OfflineMesh, names: Sequence[str]) -> tuple[Without, ...]:
    alone = each_alone(mesh.sources)
    return (*alone, together(names, mesh.sources)) if names else alone


def _slates(observations: Sequence[Observation], items: ItemFacts) -> dict[str, SlateFacts]:
    own: NDArray[np.float64] = np.array(
        [mean_popularity(each.history, items) for each in observations]
    )
    return {
        method: slate_facts([each.lists[method][:PAGE_SIZE] for each in observations], own, items)
        for method in observations[0].lists
        if method != RANKED  # as a page its artist cap is another: that of PAGE
    }


def _approximations(observations: Sequence[Observation]) -> tuple[Approximation, ...]:
    if not observations[0].exact:
        return ()
    targets = [each.targets for each in observations]
    approximate = [each.proposed[ANN] for each in observations]
    answers = {
        "approximate": approximate,
        **{kind: [each.exact[kind] for each in observations] for kind in observations[0].exact},
    }
    return tuple(
        Approximation(search, recall_of(rows, targets), _overlap(rows, approximate))
        for search, rows in answers.items()
    )


def _overlap(
    answers: Sequence[NDArray[np.uint32]], approximate: Sequence[NDArray[np.uint32]]
) -> float:
    pairs = zip(answers, approximate, strict=True)
    shares = [float(np.isin(rows, found).mean()) for rows, found in pairs if len(rows)]
    return float(np.mean(shares)) if shares else 0.0


def _notes(subject: Subject, observations: Sequence[Observation]) -> Iterable[str]:
    tables = subject.mesh.tables
    unknown = np.mean([(each.targets >= tables.facts.items).mean() for each in observations])
    if unknown > MOSTLY:
        yield f"{unknown:.0%} of the new items are not in the bundle: is this log its own?"
    yield "lists leave out what the user has played; targets are items not played before"
    yield "requests are made without a market: rights are not applied"
    yield (
        f"{RANKED!r} is selected as one page of 100; {PAGE!r} has the stricter artist cap of a "
        f"page of that size, and nothing behind place {PAGE_SIZE}"
    )
    if len(np.unique(tables.traits.artists)) == tables.facts.items:
        yield "no two items have one artist: artist concentration says nothing"
    if tables.facts.order == "none":
        yield "the log has no order: what came after is what training held back at random"
