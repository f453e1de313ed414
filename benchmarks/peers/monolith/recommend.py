"""One request from ask to answer, on one thread, without a call to anybody."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.peers.models import ModelKind
from benchmarks.peers.parts import (
    SOURCES,
    Desk,
    Scorer,
    columns_of,
    is_ranked,
    open_source,
    query_of,
)
from meshkit.bundles import Bundle
from services.candidates.domain.values import CandidateSource, Query
from services.gateway.domain.recommend import NOT_ASKED
from services.gateway.domain.values import (
    Answer,
    Ask,
    Merged,
    RankerAnswer,
    SourceAnswer,
    SourceStatus,
    Subject,
)


@dataclass(frozen=True, slots=True)
class Monolith:
    """Everything in one process."""

    desk: Desk
    sources: Mapping[str, CandidateSource]
    scorer: Scorer

    @classmethod
    def open(cls, bundle: Bundle, model: ModelKind) -> "Monolith":
        """Open every part of a bundle, warm."""
        return cls(
            desk=Desk.open(bundle),
            sources={name: open_source(name, bundle) for name in SOURCES},
            scorer=Scorer.open(bundle, model),
        )

    def recommend(self, ask: Ask) -> Answer:
        """Return the slate of `ask`."""
        subject = self.desk.subject_of(ask)
        query = query_of(subject)
        answers = [asked(name, source, query) for name, source in self.sources.items()]
        candidates, removed = self.desk.to_rank(answers, subject)
        ranker = self._rank(candidates, subject)
        return self.desk.answer(ask, subject, answers, removed, candidates, ranker)

    def _rank(self, candidates: Merged, subject: Subject) -> RankerAnswer:
        if not is_ranked(candidates, subject):
            return NOT_ASKED
        started_s = time.monotonic()
        history = subject.history
        scores = self.scorer.score(
            candidates.rows, columns_of(candidates), history.rows, history.ages_s
        )
        return RankerAnswer(scores, failed=False, latency_s=time.monotonic() - started_s)


def asked(name: str, source: CandidateSource, query: Query) -> SourceAnswer:
    """Return what a source answers, as the domain has it."""
    started_s = time.monotonic()
    found = source.generate(query)
    return SourceAnswer(
        source=name,
        status=SourceStatus.OK,
        rows=found.rows,
        scores=found.scores,
        latency_s=time.monotonic() - started_s,
        data_age_s=found.data_age_s,
        tier=found.tier,
    )
