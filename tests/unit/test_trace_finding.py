"""Waiting for a trace whose spans come one after the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from meshctl.traces.find import find_trace, last_answer, missing_of
from meshctl.traces.otlp_json import spans_of
from meshctl.traces.span import Span
from meshctl.traces.store import TraceStoreError
from meshctl.traces.trace_name import TraceName
from tests.otlp_lines import GATEWAY, TRACE, JsonSpan, gateway_spans, leaf_spans, request

DAY_NS = 86_400 * 10**9


@dataclass(slots=True)
class FakeStore:
    """Has one part of a trace more each time that it is asked."""

    parts: list[list[Span]]
    wait_s: float = 5.0
    advice: str = "look elsewhere"
    asked: int = 0
    broken: list[str] = field(default_factory=list)

    def spans(self, trace_id: str) -> Sequence[Span]:
        self.asked += 1
        here = [span for part in self.parts[: self.asked] for span in part]
        return [span for span in here if span.trace_id == trace_id]

    def last_answer(self) -> Span | None:
        return next((span for part in self.parts for span in part if span.is_answer), None)

    def faults(self) -> Sequence[str]:
        return self.broken


def part(service: str, spans: Sequence[JsonSpan]) -> list[Span]:
    return list(spans_of(request(service, *spans)))


def test_it_returns_when_the_last_missing_span_has_come() -> None:
    gateway, leaf = part("gateway", gateway_spans()), part("candidates-ann", leaf_spans())
    store = FakeStore([[], leaf, [], gateway[1:], gateway[:1], []])

    found = find_trace(store, TraceName(TRACE, GATEWAY))

    assert len(found.spans) == 6
    assert store.asked == 5


def test_a_complete_trace_is_not_waited_for() -> None:
    store = FakeStore([part("gateway", gateway_spans()) + part("ann", leaf_spans())])

    find_trace(store, TraceName(TRACE))

    assert store.asked == 1


def test_what_is_missing_to_the_end_is_said() -> None:
    store = FakeStore([part("gateway", gateway_spans())], wait_s=0.3)
    name = TraceName(TRACE, GATEWAY)

    found = find_trace(store, name)

    assert missing_of(found, name) == ("the span of ann, which answered",)
    assert store.asked > 1


def test_the_answers_own_span_is_waited_for_by_its_id() -> None:
    store = FakeStore(
        [part("candidates-ann", leaf_spans()[:0]), part("x", gateway_spans()[3:])], 0.3
    )
    name = TraceName(TRACE, GATEWAY)

    found = find_trace(store, name)

    assert missing_of(found, name)[0] == f"the span {GATEWAY}, the answer's own"


def test_an_old_trace_that_misses_something_is_not_waited_for() -> None:
    old = part("gateway", gateway_spans(began_ns=time.time_ns() - DAY_NS))
    store = FakeStore([old])

    find_trace(store, TraceName(TRACE))

    assert store.asked == 1


def test_nothing_at_all_is_an_error_with_advice_and_what_could_not_be_read() -> None:
    store = FakeStore([], wait_s=0.1, broken=["cannot read x"])

    with pytest.raises(TraceStoreError, match=f"no trace {TRACE}: look elsewhere; cannot read x"):
        find_trace(store, TraceName(TRACE))


def test_the_last_answer_is_named_by_trace_and_span() -> None:
    store = FakeStore([part("gateway", gateway_spans())])

    assert last_answer(store) == TraceName(TRACE, GATEWAY)


def test_no_answer_yet_is_an_error_with_advice() -> None:
    with pytest.raises(TraceStoreError, match="no answer was recorded yet: look elsewhere"):
        last_answer(FakeStore([]))
