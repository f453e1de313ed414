"""What the gateway counts of its answers."""

from collections.abc import Iterator, Mapping, Sequence

from meshkit.telemetry.instruments import ITEMS, one_of
from meshkit.telemetry.metrics import Meter
from services import attributes
from services.gateway.domain.filters import FILTERS
from services.gateway.domain.values import HISTORY_STATUSES, Answer, RankedBy, SourceStatus
from signals.tiers import Tier

QUALITIES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.99, 1.0)
"""Upper bounds of buckets; the last holds answers for which all candidates were asked."""

RANKER_FAILED = "ranker_failed"
PAGE_SHORT = "page_short"
SOURCE_REASONS = {
    status: f"source_{status.name.lower()}"
    for status in SourceStatus
    if status is not SourceStatus.OK
}
HISTORY_REASONS: Mapping[SourceStatus, str] = {
    status: f"history_{status.name.lower()}"
    for status in HISTORY_STATUSES
    if status is not SourceStatus.OK
}
REASONS = (*HISTORY_REASONS.values(), *SOURCE_REASONS.values(), RANKER_FAILED, PAGE_SHORT)
"""Why an answer is degraded."""


class AnswerMetrics:
    """Answers by what they are worth, and what their sources and filters did."""

    def __init__(self, meter: Meter, sources: Sequence[str]) -> None:
        source = one_of("recmesh.source", sources)
        status = one_of("recmesh.source.status", [each.name for each in SourceStatus])
        self._is_on = meter.is_on
        self._answers = meter.counter(
            "recmesh.answers",
            "{answer}",
            "Answers, by the best rung that they stand on and by who ranked them",
            (
                one_of("recmesh.tier", [tier.name for tier in Tier]),
                one_of("recmesh.ranked_by", [each.name for each in RankedBy]),
                one_of("recmesh.degraded", [True, False]),
            ),
        )
        self._degraded = meter.counter(
            "recmesh.answers.degraded",
            "{answer}",
            "Degraded answers, once for each reason",
            (one_of("recmesh.degraded.reason", REASONS),),
        )
        self._empty = meter.counter("recmesh.answers.empty", "{answer}", "Answers without items")
        self._quality = meter.histogram(
            "recmesh.answers.quality",
            "1",
            "Share of the configured candidate counts that was asked for",
            bounds=QUALITIES,
        )
        self._histories = meter.counter(
            "recmesh.history.answers",
            "{answer}",
            "What came of reading a user's history",
            (one_of(attributes.HISTORY_STATUS, [each.name for each in HISTORY_STATUSES]),),
        )
        self._of_sources = meter.counter(
            "recmesh.source.answers", "{answer}", "What came of asking a source", (source, status)
        )
        self._candidates = meter.histogram(
            "recmesh.source.candidates",
            "{item}",
            "Candidates in a source's answer",
            (source,),
            ITEMS,
        )
        self._removed = meter.counter(
            "recmesh.filter.removed",
            "{item}",
            "Candidates that a filter took out",
            (one_of("recmesh.filter", [name for name, _ in FILTERS]),),
        )

    def answered(self, answer: Answer) -> None:
        """Count one answer."""
        if not self._is_on:
            return
        self._answers.add(1, answer.tier.name, answer.ranked_by.name, answer.is_degraded)
        for reason in degraded_reasons(answer):
            self._degraded.add(1, reason)
        if not len(answer.slate.rows):
            self._empty.add(1)
        self._quality.record(answer.quality)
        if answer.history.latency_s is not None:
            self._histories.add(1, answer.history.status.name)
        for source in answer.sources:
            self._of_sources.add(1, source.source, source.status.name)
            if source.has_answered:
                self._candidates.record(len(source.rows), source.source)
        for removed in answer.removed:
            if len(removed.rows):
                self._removed.add(len(removed.rows), removed.filter_name)


def degraded_reasons(answer: Answer) -> Iterator[str]:
    """Yield each reason once; none says that the answer is not degraded."""
    if not answer.has_history:
        yield HISTORY_REASONS[answer.history.status]
    statuses = {source.status for source in answer.sources}
    yield from (reason for status, reason in SOURCE_REASONS.items() if status in statuses)
    if answer.ranker.failed:
        yield RANKER_FAILED
    if answer.is_short:
        yield PAGE_SHORT
