"""The mesh in one process: training and evaluation ask the code that serves.

Sources, merging, filters, features and re-ranking are the services' own; only the wires are
missing. What it answers for a user is what the running mesh answers from the same bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import distinct, stack
from pipeline.tables import Tables
from pipeline.trending_counts import snapshot_of
from services.candidates.adapters.ann_source import AnnSource
from services.candidates.adapters.next_source import NextSource
from services.candidates.adapters.similar_source import SimilarSource
from services.candidates.adapters.together_source import TogetherSource
from services.candidates.adapters.trending_source import TrendingSource
from services.candidates.domain.trending import Segment, TrendingSnapshot
from services.candidates.domain.values import CandidateSource, Query
from services.gateway.domain.filters import ItemRules, filter_candidates
from services.gateway.domain.history import Plays, compose_history
from services.gateway.domain.merge import merge
from services.gateway.domain.recommend import Limits
from services.gateway.domain.values import (
    History,
    Merged,
    SourceAnswer,
    SourceStatus,
    Subject,
)
from services.ranker.domain.values import ItemTables, RankingQuery, SourceColumn
from signals.bundle_facts import BundleFacts

NO_ROWS = np.zeros(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class FixedTrends:
    """A trending snapshot that never changes."""

    fixed: TrendingSnapshot

    def snapshot(self) -> TrendingSnapshot:
        """Return the snapshot."""
        return self.fixed

    def want(self, segments: Sequence[Segment]) -> None:
        """Do nothing: every segment is held."""

    def age_s(self) -> float:
        """Return 0: the snapshot is as of the tables."""
        return 0.0


@dataclass(frozen=True, slots=True)
class OfflineMesh:
    """Sources and rules over one set of tables."""

    tables: Tables
    sources: Mapping[str, CandidateSource]
    rules: ItemRules
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def over(cls, tables: Tables, directory: Path) -> Self:
        """Write `tables` into `directory` and open what the sources read, as they do."""
        tables.write(directory)
        return cls._of(tables, directory)

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Open a verified bundle. Raises OSError or ValueError."""
        return cls._of(Tables.open(directory, facts), directory)

    @classmethod
    def _of(cls, tables: Tables, directory: Path) -> Self:
        names = tables.genre_names.names()
        trends = snapshot_of(tables.trends, tables.keys, names, tables.facts.as_of_s)
        return cls(
            tables=tables,
            sources={
                name: _open_source(name, directory, tables.facts, trends)
                for name in tables.facts.sources
            },
            rules=ItemRules(tables.keys, tables.traits, tables.rights),
        )

    def item_tables(self) -> ItemTables:
        """Return what features look up."""
        return ItemTables(
            facts=self.tables.facts,
            embedding=self.tables.embedding,
            neighbours=self.tables.neighbours,
            successors=self.tables.successors,
            companions=self.tables.companions,
            transitions=self.tables.transitions,
            stats=self.tables.stats,
            traits=self.tables.traits,
        )

    def history(self, user_key: int) -> History:
        """Return the history of a user as the gateway composes it from the tables."""
        rows, times_s = self.tables.histories.of(user_key)
        return compose_history(
            Plays(rows, times_s), NO_ROWS, self.tables.keys.keys, self.tables.facts.as_of_s
        )

    def ask_sources(self, history: History) -> tuple[SourceAnswer, ...]:
        """Return what every source proposes."""
        query = Query(
            limit=self.limits.candidates_per_source,
            history_rows=history.rows,
            seen_filter=history.seen_filter,
            exclude_rows=NO_ROWS,
            market="",
        )
        return tuple(_answer(name, source, query) for name, source in self.sources.items())

    def candidates(self, history: History, answers: tuple[SourceAnswer, ...]) -> Merged:
        """Return what the ranker would be asked, in merge order."""
        subject = Subject(history, NO_ROWS, market="", ignored_item_ids=0)
        allowed, _ = filter_candidates(merge(answers), subject, self.rules)
        return allowed.head(self.limits.ranked)


def ranking_query(candidates: Merged, history: History) -> RankingQuery:
    """Return the ranker's view of what the gateway merged."""
    return RankingQuery(
        rows=candidates.rows,
        sources={
            name: SourceColumn(column.ranks, column.scores)
            for name, column in candidates.columns.items()
        },
        history_rows=history.rows,
        history_ages_s=history.ages_s,
    )


def _open_source(
    name: str, directory: Path, facts: BundleFacts, trends: TrendingSnapshot
) -> CandidateSource:
    if name == "trending":
        return TrendingSource.open(directory, FixedTrends(trends))
    return OPENERS[name](directory, facts)


OPENERS: Mapping[str, Callable[[Path, BundleFacts], CandidateSource]] = {
    "ann": AnnSource.open,
    "similar": SimilarSource.open,
    "next": NextSource.open,
    "together": TogetherSource.open,
}


def _answer(name: str, source: CandidateSource, query: Query) -> SourceAnswer:
    found = source.generate(query)
    return SourceAnswer(name, SourceStatus.OK, found.rows, found.scores)


def targets_by_user(
    users: NDArray[np.uint32], rows: NDArray[np.uint32]
) -> dict[int, NDArray[np.uint32]]:
    """Return the distinct rows of every user, keyed by user place, users in order."""
    pairs, _ = distinct(stack(users, rows))
    places, starts = np.unique(pairs[0], return_index=True)
    by_user = np.split(pairs[1].astype(np.uint32), starts[1:]) if len(starts) else []
    return dict(zip(places.tolist(), by_user, strict=True))
