"""What the drills hold against the mesh: every verdict can say no."""

from dataclasses import replace
from typing import Any

import pytest

from meshctl.drills.deadlines import every_call_has_less_than
from meshctl.drills.dynamodb_faults import Window, costs_no_more, goes_stale
from meshctl.drills.dynamodb_faults import recovers as trending_recovers
from meshctl.drills.heartbeat import Stalls
from meshctl.drills.hedging import Measured, extra_calls_are_few, extra_calls_end, p99_is_cut
from meshctl.drills.leaf_faults import (
    Episode,
    is_named,
    names_no_other_part,
    names_the_right_part,
    recovers,
)
from meshctl.drills.leaks import does_not_grow, meant_ones_failed
from meshctl.drills.mesh import LeafCalls
from meshctl.drills.overload import (
    Overload,
    admitted_in_time,
    goodput_holds,
    memory_holds,
    only_refused_or_late,
    shed_at_once,
)
from meshctl.drills.overload import recovers as overload_recovers
from meshctl.drills.records import GIVEN_UP, LATE, SHED, Record, SourceRecord
from meshctl.drills.retries import attempts_are_bounded
from meshctl.drills.verdicts import Subject, no_request_failed, no_request_late
from meshctl.drills.vitals import Vitals
from meshctl.faults import Counts, FaultKind
from tests.unit.drill_records import STARTED_S, answered, parts, steady

SUBJECT = Subject("a drill", "something was done")
NO_STALLS = Stalls(())


def test_whole_answers_hold() -> None:
    assert no_request_failed(SUBJECT, steady(2), at_least=100).is_held


@pytest.mark.parametrize("fault", [{"outcome": "UNAVAILABLE"}, {"items": 0}])
def test_one_failed_or_empty_answer_is_not_held(fault: dict[str, object]) -> None:
    records = [*steady(2), replace(answered(3.0), **fault)]  # type: ignore[arg-type]  # fields

    assert not no_request_failed(SUBJECT, records, at_least=100).is_held


def test_too_few_requests_show_nothing() -> None:
    assert not no_request_failed(SUBJECT, steady(1), at_least=100).is_held


def about_failed(*failed: Record) -> str:
    """Return what the verdict on 500 good answers and some failed ones is about."""
    found = no_request_failed(SUBJECT, [*steady(10), *failed], at_least=1)
    assert not found.is_held
    return found.about


def failures(outcome: str, number: int, **changes: Any) -> list[Record]:
    return [answered(20 + n, outcome=outcome, items=0, **changes) for n in range(number)]


def test_a_few_refusals_and_fewer_late_ones_are_put_down_to_the_machine() -> None:
    assert about_failed(*failures(SHED, 50)) == "time"
    assert about_failed(*failures(SHED, 60)) == "state"
    assert about_failed(*failures(LATE, 5)) == "time"
    assert about_failed(*failures(LATE, 6)) == "state"
    assert about_failed(*failures(SHED, 1), *failures("INTERNAL", 1)) == "state"
    assert about_failed(*failures("INTERNAL", 1)) == "state"
    assert about_failed(*failures("OK", 1)) == "state"


def test_what_fails_where_the_load_itself_stood_still_is_put_down_to_the_machine() -> None:
    stalled = [replace(record, due_s=record.due_s - 1.5) for record in failures(LATE, 20)]
    timers_late = failures(LATE, 20, latency_s=0.5)

    assert about_failed(*stalled) == "time"
    assert about_failed(*timers_late) == "time"
    assert about_failed(*stalled, *failures("INTERNAL", 1)) == "state"


def test_a_late_answer_is_not_held() -> None:
    on_time, late = answered(3.0, latency_s=0.159), answered(3.0, latency_s=0.161)

    assert no_request_late(SUBJECT, [on_time], NO_STALLS).is_held
    assert not no_request_late(SUBJECT, [late], NO_STALLS).is_held
    assert not no_request_late(SUBJECT, [], NO_STALLS).is_held


def test_a_late_answer_in_a_stall_is_excused_while_stalls_are_rare() -> None:
    late = answered(20.0, latency_s=0.5)
    stalls = Stalls.of([(STARTED_S + 20.1, STARTED_S + 20.2)])

    assert no_request_late(SUBJECT, [*steady(10), late], stalls).is_held
    assert not no_request_late(SUBJECT, [*steady(1), late], stalls).is_held
    assert not no_request_late(SUBJECT, [*steady(10), late], NO_STALLS).is_held


# Leaf faults


def episode(leaf: str = "ann", harm: str = "stopped") -> Episode:
    """Return a leaf that was harmed from 1 s to 4 s and steady again at 12 s."""
    times_s = (STARTED_S + 1, STARTED_S + 4, STARTED_S + 4, STARTED_S + 12)
    return Episode(leaf, harm, *times_s)  # type: ignore[arg-type]  # one of the harms


def while_ann_is_down(until_s: float) -> list[Record]:
    """Return answers that lack ann from 1 s until some moment."""
    return [
        replace(record, sources=parts(ann="TIMEOUT"))
        if STARTED_S + 1 <= record.began_s < STARTED_S + until_s
        else record
        for record in steady(12)
    ]


def test_coverage_must_name_the_leaf_in_every_answer_after_a_deadline() -> None:
    records = while_ann_is_down(until_s=4)
    unaware = [answered(2.0), *records]
    just_before = [answered(1.1), *records]

    assert names_the_right_part([episode()], records).is_held
    assert names_the_right_part([episode()], just_before).is_held
    assert not names_the_right_part([episode()], unaware).is_held
    assert not names_the_right_part([episode("similar")], records).is_held
    assert not names_the_right_part([episode()], []).is_held


def test_short_delays_may_be_answered_in_time() -> None:
    records = [answered(2.0), *while_ann_is_down(until_s=4)]

    assert names_the_right_part([episode(harm="delayed 0-5 s")], records).is_held
    assert not names_the_right_part([episode(harm="delayed 0-5 s")], steady(12)).is_held


def test_coverage_must_not_name_another_leaf() -> None:
    records = while_ann_is_down(until_s=4)
    wrong = [*records, answered(2.0, ranked_by="FALLBACK")]
    stall = Stalls.of([(STARTED_S + 2.0, STARTED_S + 2.01)])

    assert names_no_other_part([episode()], records, NO_STALLS).is_held
    assert not names_no_other_part([episode()], wrong, NO_STALLS).is_held
    assert names_no_other_part([episode()], wrong, stall).is_held


def test_a_leaf_must_take_part_again_within_5_s() -> None:
    assert recovers([episode()], while_ann_is_down(until_s=8.9)).is_held
    assert not recovers([episode()], while_ann_is_down(until_s=9.2)).is_held
    assert not recovers([episode()], []).is_held


def test_only_a_leaf_that_does_not_take_part_in_the_end_is_no_matter_of_time() -> None:
    assert recovers([episode()], while_ann_is_down(until_s=11)).about == "time"
    assert recovers([episode()], while_ann_is_down(until_s=12)).about == "state"


def test_only_that_nobody_was_answered_is_put_down_to_the_machine() -> None:
    unaware = [answered(2.0), *while_ann_is_down(until_s=4)]

    assert names_the_right_part([episode()], []).about == "time"
    assert names_the_right_part([episode()], unaware).about == "state"


def test_the_ranker_is_named_by_what_ranked() -> None:
    assert is_named(answered(0.0, ranked_by="FALLBACK"), "ranker")
    assert not is_named(answered(0.0), "ranker")


# Deadlines, retries, hedging


def seen(**changes: object) -> Counts:
    """Return what a proxy saw of calls with proper deadlines."""
    usual: dict[str, object] = {
        "calls": {"/recmesh.ranker.v1.RankerService/Rank": 300},
        "least_remaining_s": 0.02,
        "most_remaining_s": 0.14,
    }
    return Counts(**{**usual, **changes})  # type: ignore[arg-type]  # fields of counts


@pytest.mark.parametrize(
    "fault",
    [
        {"most_remaining_s": 0.15},
        {"least_remaining_s": 0.0},
        {"least_remaining_s": -0.01},
        {"without_deadline": 1},
        {"calls": {}},
        {"least_remaining_s": None, "most_remaining_s": None},
    ],
)
def test_a_deadline_outside_of_the_callers_is_not_held(fault: dict[str, object]) -> None:
    assert every_call_has_less_than(0.15, {"ranker": seen()}, "").is_held
    counts = {"ranker": seen(), "ann": seen(**fault)}

    assert not every_call_has_less_than(0.15, counts, "").is_held


def test_only_a_call_that_lost_its_time_on_the_way_is_put_down_to_the_machine() -> None:
    def about(**fault: Any) -> str:
        return every_call_has_less_than(0.15, {"ranker": seen(**fault)}, "").about

    assert about(least_remaining_s=0.0) == "time"
    assert about(least_remaining_s=0.0, most_remaining_s=0.0) == "state"
    assert about(most_remaining_s=0.2) == "state"
    assert about(without_deadline=1) == "state"


def test_more_than_1_2_attempts_a_request_are_not_held() -> None:
    assert attempts_are_bounded(LeafCalls(1_200, 1_200), 1_000, "").is_held
    assert not attempts_are_bounded(LeafCalls(1_201, 1_201), 1_000, "").is_held


def test_an_outage_that_did_not_happen_shows_nothing() -> None:
    answered_calls = LeafCalls(1_000, 0)

    assert not attempts_are_bounded(answered_calls, 1_000, "").is_held
    assert not attempts_are_bounded(LeafCalls(0, 0), 1_000, "").is_held
    assert not extra_calls_end(with_similar_at(0.01, calls=100, hit=0)).is_held
    assert not p99_is_cut(with_similar_at(0.01, hit=0), with_similar_at(0.05, hit=0), "").is_held


def with_similar_at(latency_s: float, calls: int = 105, hit: int = 2) -> Measured:
    """Return 100 requests, each answered by similar after `latency_s`; some calls hit a fault."""
    sources = {"similar": SourceRecord("OK", latency_s)}
    return Measured([answered(n / 50, sources=sources) for n in range(100)], LeafCalls(calls, hit))


def test_hedging_must_halve_p99() -> None:
    plain = with_similar_at(0.050)

    assert p99_is_cut(with_similar_at(0.025), plain, "").is_held
    assert not p99_is_cut(with_similar_at(0.026), plain, "").is_held
    assert not p99_is_cut(Measured([], LeafCalls(0, 0)), plain, "").is_held


def test_second_calls_must_be_made_but_not_many() -> None:
    assert extra_calls_are_few(with_similar_at(0.01, calls=106), "").is_held
    assert not extra_calls_are_few(with_similar_at(0.01, calls=107), "").is_held
    assert not extra_calls_are_few(with_similar_at(0.01, calls=100), "").is_held


def test_only_requests_that_were_refused_excuse_that_no_second_call_is_seen() -> None:
    whole = with_similar_at(0.01, calls=100)
    shed = Measured([*whole.records, answered(3.0, outcome=SHED, items=0)], whole.calls)

    assert extra_calls_are_few(whole, "").about == "state"
    assert extra_calls_are_few(shed, "").about == "time"
    assert extra_calls_are_few(replace(shed, calls=LeafCalls(200, 2)), "").about == "state"


def test_second_calls_must_end_in_an_outage() -> None:
    assert extra_calls_end(with_similar_at(0.085, calls=100, hit=100)).is_held
    assert not extra_calls_end(with_similar_at(0.085, calls=101, hit=101)).is_held


# Overload


def overloaded(*records: Record, peak_per_s: float = 50.0, growth: int = 0) -> Overload:
    """Return ten seconds of overload."""
    return Overload(peak_per_s, records, STARTED_S, STARTED_S + 10, {"gateway": growth})


def refused(latency_s: float = 0.002) -> list[Record]:
    """Return requests that were refused, at twice the peak."""
    return [answered(n / 100, latency_s=latency_s, outcome=SHED, items=0) for n in range(1_000)]


def test_goodput_must_stay_at_80_percent_of_the_peak() -> None:
    assert goodput_holds(overloaded(*steady(10, per_s=40), *refused())).is_held
    assert not goodput_holds(overloaded(*steady(10, per_s=39), *refused())).is_held
    assert not goodput_holds(overloaded(*steady(10), peak_per_s=0.0)).is_held


def test_an_answer_after_its_deadline_is_no_goodput() -> None:
    late = [replace(record, ended_s=record.ended_s + 0.2) for record in steady(10)]

    assert not goodput_holds(overloaded(*late)).is_held


def test_who_is_admitted_must_be_answered_in_time() -> None:
    given_up = [answered(n, latency_s=0.201, outcome=LATE) for n in range(10)]

    assert admitted_in_time(overloaded(*steady(10), *refused(latency_s=1.0))).is_held
    assert not admitted_in_time(overloaded(*steady(10), *given_up)).is_held
    assert not admitted_in_time(overloaded(*refused())).is_held


def test_refusals_must_be_made_and_at_once() -> None:
    measured = overloaded(*steady(10), *refused(latency_s=0.1))

    assert shed_at_once(replace(measured, shed_s=[0.0004, 0.0049])).is_held
    assert not shed_at_once(replace(measured, shed_s=[0.006, 0.006])).is_held
    assert not shed_at_once(measured).is_held


def test_overload_may_refuse_and_be_late_but_not_fail() -> None:
    assert only_refused_or_late(overloaded(*steady(10), *refused())).is_held
    assert not only_refused_or_late(overloaded(*steady(10))).is_held
    assert not only_refused_or_late(
        overloaded(*refused(), answered(1.0, outcome="INTERNAL"))
    ).is_held
    assert not only_refused_or_late(overloaded(*refused(), answered(1.0, items=0))).is_held


def test_no_process_may_grow_by_more_than_50_mb() -> None:
    assert memory_holds(overloaded(growth=50_000_000)).is_held
    assert not memory_holds(overloaded(growth=50_000_001)).is_held


def test_all_must_be_answered_5_s_after_an_overload() -> None:
    calm = [answered(10 + n / 50) for n in range(400)]

    assert overload_recovers(overloaded(*calm, answered(14.9, outcome=SHED))).is_held
    assert not overload_recovers(overloaded(*calm, answered(15.1, outcome=SHED))).is_held
    assert not overload_recovers(overloaded(*steady(10))).is_held


def test_a_small_overload_may_refuse_nobody_but_nobody_may_fail() -> None:
    failed = answered(1.0, outcome="INTERNAL")

    assert only_refused_or_late(overloaded(*steady(10))).about == "time"
    assert only_refused_or_late(overloaded(*steady(10), failed)).about == "state"


# DynamoDB

BROKEN = Window(FaultKind.HANG, STARTED_S, STARTED_S + 20, cpu_s=1.0)


def with_trending(status: str, *, ages_a_second: float = 1.0) -> list[Record]:
    """Return answers of 20 s with trending in one state, its data growing older."""
    return [
        replace(
            record,
            sources={
                "trending": SourceRecord(
                    status, 0.004, ages_a_second * (record.ended_s - STARTED_S)
                )
            },
        )
        for record in steady(20)
    ]


def test_trending_must_be_stale_and_its_age_must_grow() -> None:
    stale = with_trending("STALE")

    assert goes_stale(BROKEN, stale).is_held
    assert not goes_stale(BROKEN, with_trending("STALE", ages_a_second=0.0)).is_held
    assert not goes_stale(BROKEN, with_trending("OK")).is_held
    assert not goes_stale(BROKEN, [*stale, answered(15.0)]).is_held
    assert not goes_stale(BROKEN, with_trending("ERROR")).is_held
    assert not goes_stale(BROKEN, []).is_held


def test_only_few_or_late_answers_of_trending_are_put_down_to_the_machine() -> None:
    assert goes_stale(BROKEN, []).about == "time"
    assert goes_stale(BROKEN, with_trending("STALE", ages_a_second=1.5)).about == "time"
    assert goes_stale(BROKEN, with_trending("OK")).about == "state"
    assert goes_stale(BROKEN, with_trending("ERROR")).about == "state"


def test_a_broken_dynamodb_must_not_cost_processor_time() -> None:
    before = Window(FaultKind.NONE, STARTED_S, STARTED_S + 20, cpu_s=0.9)

    assert costs_no_more(before, BROKEN, steady(20)).is_held
    assert not costs_no_more(replace(before, cpu_s=0.8), BROKEN, steady(20)).is_held


def test_trending_must_come_back() -> None:
    assert trending_recovers(BROKEN, with_trending("OK")).is_held
    assert not trending_recovers(BROKEN, with_trending("STALE")).is_held
    assert not trending_recovers(BROKEN, with_trending("ERROR")).is_held
    assert not trending_recovers(BROKEN, []).is_held


def test_a_last_answer_that_trending_was_late_for_does_not_hide_that_it_came_back() -> None:
    late = answered(21.0, sources={"trending": SourceRecord("TIMEOUT", None)})

    assert trending_recovers(BROKEN, [*with_trending("OK"), late]).is_held
    assert not trending_recovers(BROKEN, [*with_trending("STALE"), late]).is_held


# Leaks


def growing(bytes_a_request: float) -> list[Vitals]:
    """Return the vitals of a process during 20 s at 50 requests/s."""
    return [
        Vitals(STARTED_S + second, int(100_000_000 + 50 * second * bytes_a_request), 0.0)
        for second in range(20)
    ]


def test_a_process_may_grow_by_300_bytes_a_request() -> None:
    records = [answered(n / 50, latency_s=0.0) for n in range(1_000)]

    assert does_not_grow("gateway", growing(290), records).is_held
    assert not does_not_grow("gateway", growing(310), records).is_held
    assert not does_not_grow("gateway", [], records).is_held


def test_growth_before_it_is_warm_is_no_leak() -> None:
    records = [answered(n / 50, latency_s=0.0) for n in range(1_000)]
    notes = growing(0)

    cold = [replace(note, rss_bytes=50_000_000) for note in notes[:5]]

    assert does_not_grow("gateway", [*cold, *notes[5:]], records).is_held


def test_a_leak_drill_without_late_and_given_up_calls_shows_nothing() -> None:
    late = [answered(n, outcome=LATE) for n in range(10)]
    given_up = [answered(n, outcome=GIVEN_UP) for n in range(5)]

    assert meant_ones_failed([*steady(1.7), *late, *given_up]).is_held
    assert not meant_ones_failed([*steady(1.9), *given_up]).is_held
    assert not meant_ones_failed([*steady(1.8), *late]).is_held
