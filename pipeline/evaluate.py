"""Evaluation: the slate as served against each part of it alone and against popularity."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import METRICS, ListQuality, list_quality
from pipeline.offline_mesh import OfflineMesh, ranking_query
from services.gateway.domain.recommend import reorder
from services.gateway.domain.rerank import select
from services.gateway.domain.values import History, Merged, Rows, Scores
from services.ranker.domain.rank import rank
from services.ranker.domain.values import ScoringModel
from signals.bundle_facts import BundleFacts

LIST_LENGTH = 100
"""Length of every list that is measured: what recall@100 looks at."""
COVERAGE_DEPTH = 20
Z_95 = 1.959964
"""Standard deviations to each side that hold 95 % of a normal distribution."""

RANKED, MERGED, POPULARITY = "ranked", "merge order", "popularity"


class EvaluationError(Exception):
    """Targets that an honest evaluation cannot use; the message says which."""


@dataclass(frozen=True, slots=True)
class MethodQuality:
    """Means over the evaluated users of one method."""

    method: str
    ndcg_10: float
    ndcg_20: float
    hit_10: float
    recall_20: float
    recall_100: float
    catalogue_coverage: float
    """Share of the catalogue that stands in the first 20 of any list."""
    ndcg_10_ci95: float
    """Half-width of the 95 % normal interval of `ndcg_10` over users; 1 for fewer than two."""

    def to_json(self) -> dict[str, float | str]:
        """Return a JSON object."""
        return asdict(self)


def evaluate(
    mesh: OfflineMesh, model: ScoringModel, users: Iterable[tuple[int, Rows]]
) -> tuple[MethodQuality, ...]:
    """Return the quality of every method over `users` (user key, new items played after the cut).

    Every list leaves out what the user has had. The ranked one is the slate as the gateway would
    answer it, artist cap of a page of `LIST_LENGTH` included. Raises EvaluationError for a target
    that the tables know as played.
    """
    qualities: dict[str, list[ListQuality]] = {}
    shown: dict[str, set[int]] = {}
    for key, targets in users:
        _refuse_known(mesh, key, targets)
        for method, rows in lists_of(mesh, model, key).items():
            qualities.setdefault(method, []).append(list_quality(rows[:LIST_LENGTH], targets))
            shown.setdefault(method, set()).update(rows[:COVERAGE_DEPTH].tolist())
    n_items = mesh.tables.facts.items
    return tuple(
        MethodQuality(
            method=method,
            catalogue_coverage=len(shown[method]) / n_items,
            ndcg_10_ci95=half_width([quality.ndcg_10 for quality in of_method]),
            **{metric: _mean(of_method, metric) for metric in METRICS},
        )
        for method, of_method in qualities.items()
    )


def refuse_window(facts: BundleFacts, target_times_s: NDArray[np.int64]) -> None:
    """Raise EvaluationError unless every target came after what the tables are as of."""
    inside = int((target_times_s < facts.as_of_s).sum()) if facts.order == "time" else 0
    if inside:
        raise EvaluationError(
            f"{inside} of {len(target_times_s)} targets were played before the tables' end at "
            f"{facts.as_of_s}: measuring on them would measure memory"
        )


def _refuse_known(mesh: OfflineMesh, user_key: int, targets: Rows) -> None:
    played, _ = mesh.tables.histories.of(user_key)
    known = int(np.isin(targets, played).sum())
    if known:
        raise EvaluationError(
            f"{known} of {len(targets)} targets of a user are in the tables' own history"
        )


def lists_of(mesh: OfflineMesh, model: ScoringModel, user_key: int) -> dict[str, Rows]:
    """Return every method's list for one user, best first."""
    history = mesh.history(user_key)
    answers = mesh.ask_sources(history)
    candidates = mesh.candidates(history, answers)
    ranked = reorder(candidates, scores_of(mesh, model, candidates, history))
    return {
        RANKED: ranked.rows[select(ranked, LIST_LENGTH, mesh.rules)],
        MERGED: candidates.rows,
        **{answer.source: answer.rows for answer in answers},
        POPULARITY: popular_rows(mesh, user_key),
    }


def scores_of(
    mesh: OfflineMesh, model: ScoringModel, candidates: Merged, history: History
) -> Scores | None:
    """Return the model's scores of `candidates`; None where the gateway would not ask the ranker.

    It does not without candidates or without a history: merge order stays.
    """
    if not len(candidates.rows) or not len(history.rows):
        return None
    return rank(ranking_query(candidates, history), mesh.item_tables(), model)


def popular_rows(mesh: OfflineMesh, user_key: int) -> Rows:
    """Return the `LIST_LENGTH` items with most listeners that the user has not had."""
    popular = mesh.tables.popularity.rows
    played, _ = mesh.tables.histories.of(user_key)
    head = popular[: LIST_LENGTH + len(played)]
    return head[~np.isin(head, played)][:LIST_LENGTH]


def half_width(values: list[float]) -> float:
    """Return the half-width of the 95 % normal interval of the mean; 1 where nothing is known."""
    if len(values) < 2:  # noqa: PLR2004 - a spread needs two
        return 1.0
    return float(Z_95 * np.std(values, ddof=1) / np.sqrt(len(values)))


def _mean(qualities: list[ListQuality], metric: str) -> float:
    values: NDArray[np.float64] = np.array([getattr(quality, metric) for quality in qualities])
    return float(values.mean())
