"""The work of a request, in steps that each peer arranges as its architecture has it.

Retrieval, merging, filters and re-ranking are the mesh's own domain code over the same files of a
bundle, so that peers give the mesh's slates and differ in architecture and in ranking alone: stock
parts make features with numpy and score with LightGBM. What trends is computed once from the
bundle's counts, which are those that the mesh reads back from DynamoDB.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.models import ModelKind, Ranking, open_ranking
from meshkit.bundles import Bundle, readable
from pipeline.trending_counts import snapshot_of
from services.candidates.adapters.ann_source import AnnSource
from services.candidates.adapters.similar_source import SimilarSource
from services.candidates.adapters.trending_source import TrendingSource
from services.candidates.domain.trending import Segment, TrendingSnapshot
from services.candidates.domain.values import CandidateSource, Query
from services.gateway.config import DEFAULT_CANDIDATES_PER_SOURCE, DEFAULT_RANKED
from services.gateway.domain.filters import ItemRules, filter_candidates
from services.gateway.domain.history import NO_PLAYS, Plays, compose_history
from services.gateway.domain.ladder import tier_of
from services.gateway.domain.merge import merge
from services.gateway.domain.recommend import reorder
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import (
    Answer,
    Ask,
    Merged,
    RankerAnswer,
    Removed,
    Rows,
    Scores,
    SourceAnswer,
    Subject,
)
from services.ranker.adapters.bundle_item_tables import open_item_tables
from services.ranker.domain.values import ItemTables, RankingQuery, SourceColumn
from signals.bundle import (
    GenreNames,
    Histories,
    ItemKeys,
    ItemTexts,
    ItemTraits,
    MarketRights,
    Popularity,
    TrendCounts,
)
from signals.bundle_facts import BundleFacts
from signals.keys import item_key

CANDIDATES_PER_SOURCE = DEFAULT_CANDIDATES_PER_SOURCE
RANKED = DEFAULT_RANKED
WARM_HISTORY = 50


@dataclass(frozen=True, slots=True)
class FixedTrends:
    """Answers `Trends` with one snapshot for good."""

    held: TrendingSnapshot

    def snapshot(self) -> TrendingSnapshot:
        """Return the snapshot."""
        return self.held

    def want(self, segments: Sequence[Segment]) -> None:
        """Do nothing: every segment is held."""

    def age_s(self) -> float:
        """Return 0: what does not change does not age."""
        return 0.0


def facts_of(bundle: Bundle) -> BundleFacts:
    """Return the facts of a bundle's manifest."""
    return BundleFacts.from_json(bundle.manifest.facts)


def open_source(name: str, bundle: Bundle) -> CandidateSource:
    """Return the source of this name, mapped and warm. Raises KeyError for an unknown one."""
    facts = facts_of(bundle)
    with readable(bundle):
        source = SOURCES[name](bundle.path, facts)
    history = np.arange(min(facts.items, WARM_HISTORY), dtype=np.uint32)
    source.generate(
        Query(CANDIDATES_PER_SOURCE, history, b"", np.zeros(0, dtype=np.uint32), market="")
    )
    return source


def _trending(directory: Path, facts: BundleFacts) -> CandidateSource:
    snapshot = snapshot_of(
        TrendCounts.open(directory),
        ItemKeys.open(directory),
        GenreNames.open(directory).names(),
        float(facts.as_of_s),
    )
    return TrendingSource.open(directory, FixedTrends(snapshot))


SOURCES: Mapping[str, Callable[[Path, BundleFacts], CandidateSource]] = {
    "ann": AnnSource.open,
    "similar": SimilarSource.open,
    "trending": _trending,
}
"""In the order that answers list them."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Features and scores of candidates."""

    tables: ItemTables
    ranking: Ranking

    @classmethod
    def open(cls, bundle: Bundle, kind: ModelKind) -> "Scorer":
        """Map the tables, read the model, and score once."""
        with readable(bundle):
            tables = open_item_tables(bundle.path, facts_of(bundle))
            scorer = cls(tables, open_ranking(kind, bundle.path))
        rows = np.arange(min(scorer.tables.n_items, RANKED), dtype=np.uint32)
        ages_s = np.zeros(len(rows[:WARM_HISTORY]), dtype=np.float32)
        scorer.score(rows, {}, rows[:WARM_HISTORY], ages_s)
        return scorer

    def score(
        self,
        rows: Rows,
        sources: Mapping[str, SourceColumn],
        history_rows: Rows,
        history_ages_s: Scores,
    ) -> Scores:
        """Return the model's raw scores, parallel to `rows`."""
        query = RankingQuery(rows, sources, history_rows, history_ages_s)
        return self.ranking.model.score(self.ranking.assemble(query, self.tables))


@dataclass(frozen=True, slots=True)
class Desk:
    """What the front of a peer does itself: everything but retrieval and scoring."""

    version: str
    now_s: float
    rules: ItemRules
    popular: Rows
    histories: Histories
    texts: ItemTexts

    @classmethod
    def open(cls, bundle: Bundle) -> "Desk":
        """Map what is needed of a bundle."""
        path = bundle.path
        with readable(bundle):
            return cls(
                version=bundle.version,
                now_s=float(facts_of(bundle).as_of_s),
                rules=ItemRules(
                    ItemKeys.open(path), ItemTraits.open(path), MarketRights.open(path)
                ),
                popular=Popularity.open(path).rows,
                histories=Histories.open(path),
                texts=ItemTexts.open(path),
            )

    def subject_of(self, ask: Ask) -> Subject:
        """Return whom a request is for."""
        keys = self.rules.keys
        seeds = keys.rows_of_ids(ask.seed_item_ids)
        excluded = keys.rows_of_ids(ask.exclude_item_ids)
        stored = self.histories.of(item_key(ask.user_id))
        plays = Plays(*stored) if ask.user_id else NO_PLAYS
        seed_rows = seeds[seeds >= 0].astype(np.uint32)
        return Subject(
            history=compose_history(plays, seed_rows, keys.keys, self.now_s),
            exclude_rows=excluded[excluded >= 0].astype(np.uint32),
            market=ask.market,
            ignored_item_ids=int((seeds < 0).sum() + (excluded < 0).sum()),
            is_known=len(plays.rows) > 0,
        )

    def to_rank(
        self, answers: Sequence[SourceAnswer], subject: Subject
    ) -> tuple[Merged, tuple[Removed, ...]]:
        """Return what the model is to score, and what filters took out."""
        allowed, removed = filter_candidates(merge(answers), subject, self.rules)
        return allowed.head(RANKED), removed

    def answer(
        self,
        ask: Ask,
        subject: Subject,
        answers: Sequence[SourceAnswer],
        removed: tuple[Removed, ...],
        candidates: Merged,
        ranker: RankerAnswer,
    ) -> Answer:
        """Return the slate of the ranked candidates and what it is worth."""
        ranked = reorder(candidates, ranker.scores)
        selected = select(ranked, ask.page_size, self.rules)
        slate = fill(ranked, selected, ask.page_size, subject, self.rules, self.popular)
        return Answer(
            bundle_version=self.version,
            subject=subject,
            sources=tuple(answers),
            removed=removed,
            ranked=ranked,
            ranker=ranker,
            slate=slate,
            tier=tier_of(slate, ranked, answers, subject),
            quality=1.0,
            is_short=len(slate.rows) < ask.page_size,
        )


def query_of(subject: Subject) -> Query:
    """Return what a source is asked for `subject`."""
    history = subject.history
    return Query(
        CANDIDATES_PER_SOURCE,
        history.rows,
        history.seen_filter,
        subject.exclude_rows,
        subject.market,
    )


def columns_of(candidates: Merged) -> dict[str, SourceColumn]:
    """Return what each source said of the candidates, as the features read it."""
    return {
        name: SourceColumn(column.ranks, column.scores)
        for name, column in candidates.columns.items()
    }


def is_ranked(candidates: Merged, subject: Subject) -> bool:
    """Tell whether there is anything to rank, and by."""
    return len(candidates.rows) > 0 and len(subject.history.rows) > 0
