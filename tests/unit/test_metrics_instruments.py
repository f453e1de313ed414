"""Counters, gauges and histograms, and how many series they may have."""

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from meshkit.telemetry.instruments import ABSENT, OTHER, SECONDS, Value, first_of, one_of
from meshkit.telemetry.metrics import DELTA, EXEMPLAR_FILTERS, Meter
from tests.unit.metric_reading import ReadableMeter

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331

HOSTILE = [f"/evil.Service/{number}" for number in range(5000)]


def series(**attributes: Value) -> frozenset[tuple[str, Value]]:
    return frozenset(attributes.items())


def in_a_trace(*, is_sampled: bool) -> context.Context:
    ids = SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(is_sampled))
    return trace.set_span_in_context(NonRecordingSpan(ids))


@pytest.fixture(params=[True, False], ids=["sampled", "unsampled"])
def is_sampled(request: pytest.FixtureRequest) -> Iterator[bool]:
    token = context.attach(in_a_trace(is_sampled=request.param))
    yield request.param
    context.detach(token)


def test_a_counter_counts_by_its_attributes() -> None:
    meter = ReadableMeter()
    counter = meter.counter("calls", "{call}", "Calls", [one_of("kind", ["a", "b"])])

    counter.add(1, "a")
    counter.add(2, "b")
    counter.add(1, "b")

    assert meter.read().series("calls") == {series(kind="a"): 1, series(kind="b"): 3}


def test_a_counter_whose_values_are_known_starts_at_zero() -> None:
    meter = ReadableMeter()
    meter.counter("calls", "{call}", "Calls", [one_of("kind", ["a", "b"])])

    points = meter.read().points("calls")

    assert [(dict(point.attributes), point.value) for point in points] == [
        ({"kind": "a"}, 0),
        ({"kind": "b"}, 0),
    ]


def test_an_absent_value_leaves_its_attribute_out() -> None:
    meter = ReadableMeter()
    labels = [one_of("code", ["OK"]), one_of("error", ["BAD"])]
    counter = meter.counter("calls", "{call}", "Calls", labels)

    counter.add(1, "OK", ABSENT)

    assert meter.read().series("calls") == {series(code="OK"): 1}


def test_a_value_that_is_not_listed_makes_no_series_of_its_own() -> None:
    meter = ReadableMeter()
    counter = meter.counter("calls", "{call}", "Calls", [one_of("method", ["known"])])
    histogram = meter.histogram("took", "s", "Time", [one_of("method", ["known"])])

    for method in [*HOSTILE, "known"]:
        counter.add(1, method)
        histogram.record(0.01, method)

    expected = {series(method="known"): 1, series(method=OTHER): len(HOSTILE)}
    assert meter.read().series("calls") == expected
    assert meter.read().series("took") == expected


def test_only_the_first_names_of_an_open_attribute_are_told_apart() -> None:
    meter = ReadableMeter()
    counter = meter.counter("calls", "{call}", "Calls", [first_of("method", 2)])

    for method in ["a", "b", "c", "a", "d"]:
        counter.add(1, method)

    assert meter.read().series("calls") == {
        series(method="a"): 2,
        series(method="b"): 1,
        series(method=OTHER): 2,
    }


def test_a_histogram_puts_values_into_buckets_up_to_their_bounds() -> None:
    meter = ReadableMeter()
    histogram = meter.histogram("took", "s", "Time", bounds=(0.1, 1.0))

    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.record(value)

    (point,) = meter.read().points("took")
    assert tuple(point.bucket_counts) == (2, 1, 1)
    assert tuple(point.explicit_bounds) == (0.1, 1.0)
    assert (point.count, point.sum) == (4, pytest.approx(7.65))


def test_buckets_of_seconds_are_close_where_answers_should_be() -> None:
    hurried = [bound for bound in SECONDS if 0.001 <= bound <= 0.15]

    ratios = [after / before for before, after in pairwise(hurried)]
    assert max(ratios) <= 2
    assert {0.15, 5.0} <= set(SECONDS)  # what the surfaces allow


def test_a_histogram_adds_up_since_the_start_or_since_the_last_collection() -> None:
    meter = ReadableMeter()
    histogram = meter.histogram("took", "s", "Time")
    histogram.record(0.01)
    (first,) = meter.read().points("took")
    histogram.record(0.01)
    (second,) = meter.read().points("took")

    assert (first.count, second.count) == (1, 2)
    assert first.start_time_unix_nano == second.start_time_unix_nano
    assert [point.count for point in meter.read(DELTA).points("took")] == [2]
    assert meter.read(DELTA).points("took") == []
    histogram.record(0.01)
    (later,) = meter.read(DELTA).points("took")
    assert later.count == 1
    assert later.start_time_unix_nano > second.time_unix_nano


def test_an_exemplar_names_a_sampled_trace_only(is_sampled: bool) -> None:
    meter = ReadableMeter()
    meter.histogram("took", "s", "Time").record(0.01)

    (point,) = meter.read().points("took")

    found = [(each.value, each.trace_id, each.span_id) for each in point.exemplars]
    assert found == ([(0.01, TRACE_ID, SPAN_ID)] if is_sampled else [])


def test_a_bucket_has_one_exemplar_the_newest_and_only_once() -> None:
    meter = ReadableMeter(EXEMPLAR_FILTERS["always_on"])
    histogram = meter.histogram("took", "s", "Time", bounds=(0.1,))

    for value in (0.01, 0.02, 5.0):
        histogram.record(value)

    (point,) = meter.read().points("took")
    assert [(each.value, each.trace_id) for each in point.exemplars] == [(0.02, None), (5.0, None)]
    assert meter.read().points("took")[0].exemplars == []


def test_exemplars_can_be_switched_off(is_sampled: bool) -> None:  # noqa: ARG001  its context
    meter = ReadableMeter(EXEMPLAR_FILTERS["always_off"])
    meter.histogram("took", "s", "Time").record(0.01)

    assert meter.read().points("took")[0].exemplars == []


def test_nothing_is_lost_between_threads() -> None:
    meter = ReadableMeter()
    counter = meter.counter("calls", "{call}", "Calls", [first_of("kind", 2)])
    histogram = meter.histogram("took", "s", "Time", [first_of("kind", 2)])

    def work() -> None:
        for number in range(5000):
            counter.add(1, "ab"[number % 2])
            histogram.record(0.01, "ab"[number % 2])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {series(kind="a"): 10_000, series(kind="b"): 10_000}
    assert meter.read().series("calls") == expected
    assert meter.read().series("took") == expected


def test_a_series_that_a_gauge_leaves_out_is_gone() -> None:
    meter = ReadableMeter()
    now: dict[str, float] = {"v1": 5.0}
    meter.gauge("age", "s", "Age", lambda: [({"version": name}, age) for name, age in now.items()])

    before = meter.read().series("age")
    now.clear()
    now["v2"] = 1.0

    assert before == {series(version="v1"): 5.0}
    assert meter.read().series("age") == {series(version="v2"): 1.0}


def test_asking_for_an_instrument_again_returns_the_same() -> None:
    meter = ReadableMeter()

    assert meter.counter("calls", "{call}", "Calls") is meter.counter("calls", "{call}", "Calls")
    assert meter.histogram("took", "s", "Time") is meter.histogram("took", "s", "Time")


def test_without_an_endpoint_instruments_keep_nothing() -> None:
    meter = Meter()
    counter = meter.counter("calls", "{call}", "Calls")
    histogram = meter.histogram("took", "s", "Time")

    counter.add(1)
    histogram.record(0.01)
    meter.shutdown()

    assert counter.read() == [({}, 0)]
    assert histogram.read(is_reset=False) == []
