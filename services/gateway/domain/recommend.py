"""Recommend: the gateway's core, one request from ask to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from services.gateway.domain.failures import RULES, Failure, call_policy
from services.gateway.domain.filters import ItemRules, filter_candidates
from services.gateway.domain.history import HistoryStore, compose_history
from services.gateway.domain.ladder import tier_of
from services.gateway.domain.merge import merge
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.trail import Trail
from services.gateway.domain.values import (
    Answer,
    Ask,
    HistoryReading,
    Merged,
    RankerAnswer,
    Rows,
    Scores,
    Slate,
    SourceAnswer,
    SourceStatus,
    Subject,
)
from services.gateway.domain.waiting import results_within
from signals.bundle import ItemKeys
from signals.top import best_first

RANKER = "ranker"
LATE_S = 0.002
"""Calls end by their own timeout; those that overrun it by this much are left behind."""


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
    history_share: float = 0.2
    """Share of what remains that reading the history may use."""
    margin_s: float = 0.005
    """Kept back at every hop for the way home."""

    def narrowed(self, quality: float, page_size: int) -> "Limits":
        """Return the share `quality` of the counts, but enough for a page."""
        if quality == 1.0:
            return self
        return replace(
            self,
            candidates_per_source=_share(self.candidates_per_source, quality, page_size),
            ranked=_share(self.ranked, quality, page_size),
        )


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
    trail: Trail

    async def recommend(self, ask: Ask, budget: Budget, quality: float = 1.0) -> Answer:
        """Return the slate of `ask` and what it is worth.

        `quality`, in (0, 1], is the share of the configured candidate counts to ask for.
        """
        limits = self.limits.narrowed(quality, ask.page_size)
        subject, history = await self._look_up(ask, budget)
        answers = await self._fan_out(subject, limits, budget)
        merged = self._merge(answers)
        allowed, removed = filter_candidates(merged, subject, self.bundle.rules, self.trail)
        candidates = allowed.head(limits.ranked)
        ranker_answer = await self._rank(candidates, subject, budget)
        ranked = reorder(candidates, ranker_answer.scores)
        slate = self._re_rank(ranked, ask.page_size, subject)
        return Answer(
            bundle_version=self.bundle.version,
            subject=subject,
            sources=answers,
            removed=removed,
            ranked=ranked,
            ranker=ranker_answer,
            slate=slate,
            tier=tier_of(slate, ranked, answers, subject),
            quality=quality,
            is_short=len(slate.rows) < ask.page_size,
            history=history,
        )

    async def _look_up(self, ask: Ask, budget: Budget) -> tuple[Subject, HistoryReading]:
        keys = self.bundle.rules.keys
        seeds = known_rows(ask.seed_item_ids, keys)
        excluded = known_rows(ask.exclude_item_ids, keys)
        n_named = len(ask.seed_item_ids) + len(ask.exclude_item_ids)
        limit_s = budget.remaining_s() * self.limits.history_share - self.limits.margin_s
        plays = await self.history.plays(ask.user_id, timeout_s=limit_s)
        subject = Subject(
            history=compose_history(plays, seeds, keys.keys, self.clock.now_s()),
            exclude_rows=excluded,
            market=ask.market,
            ignored_item_ids=n_named - len(seeds) - len(excluded),
            is_known=len(plays.rows) > 0,
        )
        self.trail.mark("look_up", plays=len(subject.history.rows))
        return subject, plays.reading

    async def _fan_out(
        self, subject: Subject, limits: Limits, budget: Budget
    ) -> tuple[SourceAnswer, ...]:
        share_s = budget.remaining_s() * limits.sources_share - limits.margin_s
        disabled = self.switches.disabled_sources()
        answers = await results_within(
            [self._ask(name, name in disabled, subject, limits, share_s) for name in self.sources],
            share_s + LATE_S,
        )
        given = tuple(
            answer or failed_answer(name, Failure.LATE, share_s)
            for name, answer in zip(self.sources, answers, strict=True)
        )
        self.trail.mark(
            "fan_out", sources=tuple(f"{each.source}={each.status.name}" for each in given)
        )
        return given

    async def _ask(
        self, source: str, is_disabled: bool, subject: Subject, limits: Limits, share_s: float
    ) -> SourceAnswer:
        if is_disabled:
            return no_answer(source, SourceStatus.DISABLED)
        if share_s <= 0:
            return failed_answer(source, Failure.NO_TIME)
        return await self.sources[source].generate(
            subject,
            limit=limits.candidates_per_source,
            timeout_s=min(call_policy(source).timeout_s, share_s),
        )

    def _merge(self, answers: tuple[SourceAnswer, ...]) -> Merged:
        merged = merge(answers)
        proposed = sum(len(answer.rows) for answer in answers)
        self.trail.mark("merge", candidates_in=proposed, candidates_out=len(merged.rows))
        return merged

    async def _rank(self, candidates: Merged, subject: Subject, budget: Budget) -> RankerAnswer:
        answer = await self._ask_ranker(candidates, subject, budget)
        self.trail.mark("rank", candidates_in=len(candidates.rows))
        return answer

    async def _ask_ranker(
        self, candidates: Merged, subject: Subject, budget: Budget
    ) -> RankerAnswer:
        if not len(candidates.rows) or not len(subject.history.rows):
            return NOT_ASKED
        left_s = budget.remaining_s() - self.limits.margin_s
        if left_s <= 0:
            return RankerAnswer(scores=None, failed=True)
        timeout_s = min(call_policy(RANKER).timeout_s, left_s)
        return await self.ranker.rank(candidates, subject, timeout_s=timeout_s)

    def _re_rank(self, ranked: Merged, page_size: int, subject: Subject) -> Slate:
        rules = self.bundle.rules
        selected = select(ranked, page_size, rules)
        slate = fill(ranked, selected, page_size, subject, rules, self.bundle.popular)
        self.trail.mark("re_rank", items=len(slate.rows), filled=slate.filled)
        return slate


def known_rows(item_ids: Sequence[str], keys: ItemKeys) -> Rows:
    """Return the rows of those of `item_ids` that the bundle knows, in their order."""
    if not item_ids:
        return NO_ROWS
    rows = keys.rows_of_ids(item_ids)
    return rows[rows >= 0].astype(np.uint32)


def reorder(candidates: Merged, scores: Scores | None) -> Merged:
    """Return the candidates ordered by `scores`, which replace theirs; None keeps merge order."""
    if scores is None:
        return candidates
    order = best_first(candidates.rows, scores, len(scores))
    return candidates.reordered(order, scores.take(order))


def no_answer(source: str, status: SourceStatus, latency_s: float | None = None) -> SourceAnswer:
    """Return the answer of a source that gave none."""
    return SourceAnswer(source, status, NO_ROWS, NO_SCORES, latency_s)


def failed_answer(
    source: str, failure: Failure, latency_s: float | None = None, *, is_hedged: bool = False
) -> SourceAnswer:
    """Return the answer of a source whose call failed, as the failure policy has it."""
    return replace(
        no_answer(source, RULES[failure].status, latency_s),
        has_moved=failure is Failure.MOVED,
        is_hedged=is_hedged,
    )


def _share(count: int, quality: float, page_size: int) -> int:
    return min(count, max(round(count * quality), page_size))


NO_ROWS: Rows = np.zeros(0, dtype=np.uint32)
NO_SCORES: Scores = np.zeros(0, dtype=np.float32)
NOT_ASKED = RankerAnswer(scores=None, failed=False)
