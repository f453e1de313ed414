"""Observe: what the mesh says for one user, with everything that it left out on the way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import (
    COVERAGE_DEPTH,
    LIST_LENGTH,
    MERGED,
    POPULARITY,
    RANKED,
    popular_rows,
)
from pipeline.offline_mesh import NO_ROWS, OfflineMesh, ranking_query
from pipeline.quality.cases import Case
from pipeline.quality.exact import ANN, ExactSearch
from pipeline.quality.without import MaskedModel, Without
from services.gateway.domain.filters import FILTERS
from services.gateway.domain.recommend import reorder
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import History, Merged, Rows, Scores, SourceAnswer, Subject
from services.ranker.domain.features import assemble
from services.ranker.domain.values import ScoringModel

PAGE_SIZE = COVERAGE_DEPTH
PAGE = f"page of {PAGE_SIZE}"
"""The ranked list as a page of that size is selected: its artist cap is stricter."""

Mask = NDArray[np.bool_]
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one user would have been answered, and what they played."""

    plays: int
    """Length of the history."""
    history: Rows
    """Its rows, a row a play."""
    targets: Rows
    """As `Case.targets`."""
    lists: Mapping[str, Rows]
    """By method, best first, at most `LIST_LENGTH` rows."""
    proposed: Mapping[str, Rows]
    """By source, everything that it answered."""
    forbidden: Mapping[str, Mask]
    """By filter, in the order that they run: the targets that it would not let pass."""
    candidates: Rows
    """What was ranked, in ranked order."""
    scores: Scores | None
    """The model's, parallel to `candidates`; None where it was not asked."""
    without: Mapping[str, Rows]
    """By label of what was left out: the ranked list then."""
    exact: Mapping[str, Rows]
    """By kind of search: what `ann` would have answered; empty without that source."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way, up to the ranker."""

    history: History
    answers: tuple[SourceAnswer, ...]
    candidates: Merged
    features: Features | None


@dataclass(frozen=True, slots=True)
class Observer:
    """Asks one bundle."""

    mesh: OfflineMesh
    model: ScoringModel
    without: tuple[Without, ...]
    exact: ExactSearch | None

    @classmethod
    def of(cls, mesh: OfflineMesh, model: ScoringModel, without: tuple[Without, ...]) -> "Observer":
        """Return an observer that also searches exactly where there is an `ann` source."""
        return cls(mesh, model, without, ExactSearch.over(mesh) if ANN in mesh.sources else None)

    def observe(self, case: Case) -> Observation:
        """Return what the mesh says for one user."""
        played, _ = self.mesh.tables.histories.of(case.user_key)
        history = self.mesh.history(case.user_key)
        answers = self.mesh.ask_sources(history)
        candidates = self.mesh.candidates(history, answers)
        asked = Asked(history, answers, candidates, self._features(candidates, history))
        scores = None if asked.features is None else self.model.score(asked.features)
        ranked = reorder(candidates, scores)
        proposed = {answer.source: answer.rows for answer in answers}
        return Observation(
            plays=len(played),
            history=np.asarray(played),
            targets=case.targets,
            lists={
                RANKED: self._selected(ranked),
                PAGE: self._page(ranked, history),
                MERGED: candidates.rows[:LIST_LENGTH],
                **{name: rows[:LIST_LENGTH] for name, rows in proposed.items()},
                POPULARITY: popular_rows(self.mesh, case.user_key),
            },
            proposed=proposed,
            forbidden=self._forbidden(case.targets, history),
            candidates=ranked.rows,
            scores=None if scores is None else ranked.scores,
            without={each.label: self._ranked_without(each, asked) for each in self.without},
            exact={} if self.exact is None else self.exact.answers(history),
        )

    def _selected(self, ranked: Merged) -> Rows:
        return ranked.rows[select(ranked, LIST_LENGTH, self.mesh.rules)]

    def _page(self, ranked: Merged, history: History) -> Rows:
        rules, popular = self.mesh.rules, self.mesh.tables.popularity.rows
        places = select(ranked, PAGE_SIZE, rules)
        return fill(ranked, places, PAGE_SIZE, _subject(history), rules, popular).rows

    def _forbidden(self, targets: Rows, history: History) -> dict[str, Mask]:
        known = targets < self.mesh.tables.facts.items
        forbidden = {}
        for name, allows in FILTERS:
            mask = np.zeros(len(targets), dtype=np.bool_)
            mask[known] = ~allows(targets[known], _subject(history), self.mesh.rules)
            forbidden[name] = mask
        return forbidden

    def _features(self, candidates: Merged, history: History) -> Features | None:
        """Return the matrix that the ranker scores; None where the gateway would not ask it."""
        if not len(candidates.rows) or not len(history.rows):
            return None
        return assemble(ranking_query(candidates, history), self.mesh.item_tables())

    def _ranked_without(self, without: Without, asked: Asked) -> Rows:
        candidates, features = asked.candidates, asked.features
        if without.sources:
            kept = tuple(each for each in asked.answers if each.source not in without.sources)
            candidates = self.mesh.candidates(asked.history, kept)
            features = self._features(candidates, asked.history)
        model = MaskedModel.of(self.model, without.groups)
        scores = None if features is None else model.score(features)
        return self._selected(reorder(candidates, scores))


def _subject(history: History) -> Subject:
    return Subject(history, NO_ROWS, market="", ignored_item_ids=0)
