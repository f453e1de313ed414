"""Recommend: the gateway's core, one request from ask to answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from services.gateway.domain.filters import ItemRules, filter_candidates
from services.gateway.domain.history import HistoryStore, compose_history
from services.gateway.domain.merge import merge
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import (
    Answer,
    Ask,
    Merged,
    RankerAnswer,
    Rows,
    Scores,
    SourceAnswer,
    SourceStatus,
    Subject,
)
from signals.top import best_first


class Budget(Protocol):
    """What is left of the request's time."""

    def remaining_s(self) -> float:
        """Return seconds until the answer is due, <= 0 when it is late."""
        ...


class SourceClient(Protocol):
    """Asks one source. Never raises: what goes wrong is the answer's status."""

    async def generate(self, subject: Subject, *, limit: int, timeout_s: float) -> SourceAnswer:
        """Return the source's answer within about `timeout_s`."""
        ...


class RankerClient(Protocol):
    """Asks the ranker. Never raises: without scores the answer says so."""

    async def rank(self, candidates: Merged, subject: Subject, *, timeout_s: float) -> RankerAnswer:
        """Return the model's scores, parallel to the candidates, within about `timeout_s`."""
        ...


class Switches(Protocol):
    """What an operator has switched off."""

    def disabled_sources(self) -> frozenset[str]:
        """Return the names of the sources not to ask now."""
        ...


class Clock(Protocol):
    """The mesh's one clock."""

    def now_s(self) -> float:
        """Return unix seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is asked for, and how the budget is shared."""

    candidates_per_source: int = 200
    ranked: int = 500
    """Candidates that the model scores at most."""
    sources_share: float = 0.6
    """Share of what remains that sources may use; the ranker has the rest."""
    source_timeout_s: float = 1.0
    """A source's own limit, whatever the budget."""
    margin_s: float = 0.005
    """Kept back at every hop for the way home."""


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """The parts of one bundle that the gateway itself reads."""

    version: str
    rules: ItemRules
    popular: Rows


@dataclass(frozen=True, slots=True)
class Recommender:
    """Answers requests from one bundle."""

    bundle: ServedBundle
    history: HistoryStore
    sources: Mapping[str, SourceClient]
    """By name, in the order that answers list them."""
    ranker: RankerClient
    switches: Switches
    clock: Clock
    limits: Limits

    async def recommend(self, ask: Ask, budget: Budget) -> Answer:
        """Return the slate of `ask` and what it is worth."""
        subject = await self._look_up(ask)
        answers = await self._fan_out(subject, budget)
        merged = merge(answers)
        allowed, removed = filter_candidates(merged, subject, self.bundle.rules)
        candidates = allowed.head(self.limits.ranked)
        ranker_answer = await self._rank(candidates, subject, budget)
        ranked = reorder(candidates, ranker_answer.scores)
        selected = select(ranked, ask.page_size, self.bundle.rules)
        slate = fill(
            ranked, selected, ask.page_size, subject, self.bundle.rules, self.bundle.popular
        )
        return Answer(
            bundle_version=self.bundle.version,
            subject=subject,
            sources=answers,
            removed=removed,
            ranked=ranked,
            ranker=ranker_answer,
            slate=slate,
            is_short=len(slate.rows) < ask.page_size,
        )

    async def _look_up(self, ask: Ask) -> Subject:
        keys = self.bundle.rules.keys
        seeds = keys.rows_of_ids(ask.seed_item_ids)
        excluded = keys.rows_of_ids(ask.exclude_item_ids)
        plays = await self.history.plays(ask.user_id)
        return Subject(
            history=compose_history(
                plays, seeds[seeds >= 0].astype(np.uint32), keys.keys, self.clock.now_s()
            ),
            exclude_rows=excluded[excluded >= 0].astype(np.uint32),
            market=ask.market,
            ignored_item_ids=int((seeds < 0).sum() + (excluded < 0).sum()),
        )

    async def _fan_out(self, subject: Subject, budget: Budget) -> tuple[SourceAnswer, ...]:
        share_s = budget.remaining_s() * self.limits.sources_share - self.limits.margin_s
        timeout_s = min(self.limits.source_timeout_s, share_s)
        disabled = self.switches.disabled_sources()
        asking = (self._ask(name, name in disabled, subject, timeout_s) for name in self.sources)
        return tuple(await asyncio.gather(*asking))

    async def _ask(
        self, source: str, is_disabled: bool, subject: Subject, timeout_s: float
    ) -> SourceAnswer:
        if is_disabled:
            return no_answer(source, SourceStatus.DISABLED)
        if timeout_s <= 0:
            return no_answer(source, SourceStatus.TIMEOUT)
        return await self.sources[source].generate(
            subject, limit=self.limits.candidates_per_source, timeout_s=timeout_s
        )

    async def _rank(self, candidates: Merged, subject: Subject, budget: Budget) -> RankerAnswer:
        if not len(candidates.rows) or not len(subject.history.rows):
            return NOT_ASKED
        timeout_s = budget.remaining_s() - self.limits.margin_s
        if timeout_s <= 0:
            return RankerAnswer(scores=None, failed=True)
        return await self.ranker.rank(candidates, subject, timeout_s=timeout_s)


def reorder(candidates: Merged, scores: Scores | None) -> Merged:
    """Return the candidates ordered by `scores`, which replace theirs; None keeps merge order."""
    if scores is None:
        return candidates
    order = best_first(candidates.rows, scores, len(scores))
    return replace(candidates.take(order), scores=scores[order])


def no_answer(source: str, status: SourceStatus, latency_s: float | None = None) -> SourceAnswer:
    """Return the answer of a source that gave none."""
    return SourceAnswer(
        source, status, np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32), latency_s
    )


NOT_ASKED = RankerAnswer(scores=None, failed=False)
