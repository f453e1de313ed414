"""What the gateway counts of answers and of its calls, whatever they bring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshkit.telemetry.instruments import OTHER
from services.gateway.adapters.answer_metrics import REASONS, AnswerMetrics
from services.gateway.adapters.leaf_metrics import LeafMetrics
from services.gateway.domain.failures import Failure
from services.gateway.domain.recommend import failed_answer
from services.gateway.domain.values import (
    HISTORY_STATUSES,
    NOT_WAITED_FOR,
    Answer,
    HistoryReading,
    RankerAnswer,
    Removed,
    Slate,
    SourceAnswer,
    SourceStatus,
)
from signals.tiers import Tier
from tests.unit.gateway_world import answer_of, item_rules, ranked_of, rows_of, subject_of
from tests.unit.metric_reading import ReadableMeter

SOURCES = ("ann", "trending")
METHOD = "recmesh.ranker.v1.RankerService/Rank"


def slate_of(items: int) -> Slate:
    rows = rows_of(range(items))
    return Slate(rows, rows.astype(np.float32), rows.astype(np.intp), rows_of([]))


def answer_with(*sources: SourceAnswer, **changes: Any) -> Answer:
    rules = item_rules(10)
    answer = Answer(
        bundle_version="v1",
        subject=subject_of(rules),
        sources=sources or tuple(answer_of(name, [1, 2]) for name in SOURCES),
        removed=(Removed("seen", rows_of([3, 4])), Removed("rights", rows_of([]))),
        ranked=ranked_of(range(5)),
        ranker=RankerAnswer(np.zeros(5, dtype=np.float32), failed=False),
        slate=slate_of(5),
        tier=Tier.PERSONAL,
        quality=1.0,
        is_short=False,
    )
    return replace(answer, **changes)


def counted(answers: Sequence[Answer], name: str) -> list[tuple[dict[str, Any], int]]:
    meter = ReadableMeter()
    metrics = AnswerMetrics(meter, SOURCES)
    for answer in answers:
        metrics.answered(answer)
    series = meter.read().series(name)
    return [(dict(attributes), value) for attributes, value in series.items()]


def test_an_answer_is_counted_by_what_it_is_worth() -> None:
    degraded = answer_with(is_short=True, ranker=RankerAnswer(None, failed=False), tier=Tier(6))

    found = counted([answer_with(), answer_with(), degraded], "recmesh.answers")

    assert (
        {"recmesh.tier": "PERSONAL", "recmesh.ranked_by": "MODEL", "recmesh.degraded": False},
        2,
    ) in found
    assert (
        {"recmesh.tier": "POPULARITY", "recmesh.ranked_by": "FALLBACK", "recmesh.degraded": True},
        1,
    ) in found
    assert len(found) == 2


@pytest.mark.parametrize("status", [each for each in SourceStatus if each is not SourceStatus.OK])
def test_a_source_that_is_not_ok_is_a_reason_counted_once(status: SourceStatus) -> None:
    sources = tuple(replace(answer_of(name, [1]), status=status) for name in SOURCES)
    expected = f"source_{status.name.lower()}"

    found = counted([answer_with(*sources)], "recmesh.answers.degraded")

    assert found == [({"recmesh.degraded.reason": expected}, 1)]


def test_all_reasons_of_an_answer_are_counted() -> None:
    answer = answer_with(is_short=True, ranker=RankerAnswer(None, failed=True))

    found = counted([answer], "recmesh.answers.degraded")

    assert {found["recmesh.degraded.reason"] for found, _ in found} == {
        "ranker_failed",
        "page_short",
    }


def test_exactly_the_degraded_answers_have_a_reason() -> None:
    whole = answer_with()
    others = [
        answer_with(is_short=True),
        answer_with(ranker=RankerAnswer(None, failed=True)),
        *(
            answer_with(history=HistoryReading(status, latency_s=0.02))
            for status in HISTORY_STATUSES
            if status is not SourceStatus.OK
        ),
        *(
            answer_with(replace(answer_of("ann", [1]), status=status))
            for status in SourceStatus
            if status is not SourceStatus.OK
        ),
    ]

    assert counted([whole], "recmesh.answers.degraded") == []
    assert len(counted(others, "recmesh.answers.degraded")) == len(REASONS)
    assert all(answer.is_degraded for answer in others)


@pytest.mark.parametrize("status", HISTORY_STATUSES, ids=lambda status: status.name)
def test_a_history_that_was_asked_for_is_counted_by_what_came_of_it(status: SourceStatus) -> None:
    answers = [answer_with(history=HistoryReading(status, 0.001)), answer_with()]

    found = counted(answers, "recmesh.history.answers")

    assert answers[1].history is NOT_WAITED_FOR
    assert found == [({"recmesh.history.status": status.name}, 1)]


def test_an_answer_without_items_is_counted() -> None:
    assert counted([answer_with(slate=slate_of(0)), answer_with()], "recmesh.answers.empty") == [
        ({}, 1)
    ]


def test_sources_are_counted_by_status_and_candidates_of_those_that_answered() -> None:
    answer = answer_with(answer_of("ann", [1, 2]), failed_answer("trending", Failure.LATE))

    assert counted([answer], "recmesh.source.answers") == [
        ({"recmesh.source": "ann", "recmesh.source.status": "OK"}, 1),
        ({"recmesh.source": "trending", "recmesh.source.status": "TIMEOUT"}, 1),
    ]
    assert counted([answer], "recmesh.source.candidates") == [({"recmesh.source": "ann"}, 1)]


def test_items_that_filters_removed_are_counted() -> None:
    found = counted([answer_with(), answer_with()], "recmesh.filter.removed")

    assert found == [({"recmesh.filter": "seen"}, 4)]


def test_no_number_of_sources_and_filters_makes_more_series_than_are_configured() -> None:
    meter = ReadableMeter()
    metrics = AnswerMetrics(meter, SOURCES)

    for number in range(2000):
        metrics.answered(
            answer_with(
                answer_of(f"evil-{number}", [1]),
                bundle_version=f"v{number}",
                removed=(Removed(f"evil-{number}", rows_of([1])),),
            )
        )

    reading = meter.read()
    sources = {
        point.attributes["recmesh.source"]
        for name in ("recmesh.source.answers", "recmesh.source.candidates")
        for point in reading.points(name)
    }
    assert sources == {*SOURCES, OTHER}
    assert len(reading.points("recmesh.source.answers")) == len(SOURCES) * len(SourceStatus) + 1
    assert len(reading.points("recmesh.source.candidates")) == 1
    assert len(reading.points("recmesh.filter.removed")) == 3 + 1
    assert len(reading.points("recmesh.answers")) == len(Tier) * 2 * 2


def test_calls_to_leaves_are_told_apart_though_sources_share_a_method() -> None:
    meter = ReadableMeter()
    metrics = LeafMetrics(meter, ["ann", "ranker"], [METHOD])

    metrics.ended("ann", METHOD, "OK", 0.01)
    metrics.ended("ranker", METHOD, "UNAVAILABLE", 0.01)
    metrics.hedged("ranker")
    for number in range(1000):
        metrics.ended(f"evil-{number}", f"evil/{number}", "OK", 0.01)

    system = {"rpc.system.name": "grpc"}
    series = meter.read().series("rpc.client.call.duration")
    assert [dict(attributes) for attributes in series] == [
        {
            **system,
            "rpc.method": METHOD,
            "recmesh.leaf": "ann",
            "rpc.response.status_code": "OK",
        },
        {
            **system,
            "rpc.method": METHOD,
            "recmesh.leaf": "ranker",
            "rpc.response.status_code": "UNAVAILABLE",
            "error.type": "UNAVAILABLE",
        },
        {
            **system,
            "rpc.method": OTHER,
            "recmesh.leaf": OTHER,
            "rpc.response.status_code": "OK",
        },
    ]
    assert len(meter.read().series("recmesh.calls.hedged")) == 1
