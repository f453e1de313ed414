"""Some calls of one leaf are slow: what second calls save, what they cost, and that they end."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from meshctl.drills.mesh import LeafCalls
from meshctl.drills.plans import CALLS_PLAN, HEDGED_LEAF
from meshctl.drills.records import Record
from meshctl.drills.report import Finding
from meshctl.drills.stage import Scenario, Stage, seconds_for
from meshctl.drills.verdicts import Subject, no_request_failed, percentile
from meshctl.faults import Fault, FaultKind

REQUESTS = 3_000
SMALL_REQUESTS = 600
"""Of fewer, the second calls saved up beforehand alone would be more than 6 %."""
SMALL_PLAIN_REQUESTS = 300
WARM_REQUESTS = 150
PER_S = 50.0
SMALL_PER_S = 40.0
SLOW_SHARE = 0.02
SLOWER = 10.0
OUTAGE_REQUESTS = 200
"""Enough to use up what second calls were saved up: of fewer, some are still made after them."""
OUTAGE_S = 5.0
"""No call has so much time."""
MOST_CALLS = 1.06
LEAST_CUT = 0.5
HEDGING, PLAIN = 0, 1
"""Which gateway of the plan is which."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load with slow calls in it."""

    records: Sequence[Record]
    calls: LeafCalls

    @property
    def source_p99_s(self) -> float:
        """The leaf's latency as coverage tells it."""
        parts = [
            record.sources[HEDGED_LEAF] for record in self.records if HEDGED_LEAF in record.sources
        ]
        return percentile([part.latency_s for part in parts if part.latency_s is not None], 99)

    @property
    def answer_p99_s(self) -> float:
        """The answers' latency as the caller sees it."""
        return percentile([record.latency_s for record in self.records], 99)

    @property
    def calls_a_request(self) -> float:
        """Calls of the leaf for each request."""
        return self.calls.made / max(len(self.records), 1)


def run(stage: Stage) -> Sequence[Finding]:
    """Measure without hedging, with it, and in an outage."""
    least = SMALL_REQUESTS if stage.is_small else REQUESTS
    slower_s = (SLOWER - 1.0) * _usual_latency_s(stage, PLAIN)
    _usual_latency_s(stage, HEDGING)  # that gateway learns it at the same time
    fault = _slow(SLOW_SHARE, slower_s)
    done = f"{SLOW_SHARE:.0%} of the calls of {HEDGED_LEAF} {slower_s * 1e3:.0f} ms slower"
    stage.say(f"{done}, without hedging")
    with stage.mesh.all_faulty(HEDGED_LEAF, fault):
        plain = _measured(stage, "plain", PLAIN, SMALL_PLAIN_REQUESTS if stage.is_small else least)
    stage.say(f"{done}, with hedging")
    with stage.mesh.all_faulty(HEDGED_LEAF, fault):
        hedged = _measured(stage, "hedged", HEDGING, least)
    stage.say(f"no call of {HEDGED_LEAF} answered")
    lasting = _outage(stage)
    return (
        no_request_failed(Subject("hedging", done), hedged.records, at_least=least),
        p99_is_cut(hedged, plain, done),
        extra_calls_are_few(hedged, done),
        extra_calls_end(lasting),
    )


def p99_is_cut(hedged: Measured, plain: Measured, done: str) -> Finding:
    """Hold when the leaf's p99 with hedging is at most half of that without."""
    return Finding(
        "hedging",
        done,
        f"hedging cuts p99 of {HEDGED_LEAF} by at least {LEAST_CUT:.0%}",
        f"{plain.calls.hit} and {hedged.calls.hit} slow calls: "
        f"{plain.source_p99_s * 1e3:.1f} to {hedged.source_p99_s * 1e3:.1f} ms; "
        f"answers {plain.answer_p99_s * 1e3:.1f} to {hedged.answer_p99_s * 1e3:.1f} ms",
        is_held=min(hedged.calls.hit, plain.calls.hit) > 0
        and hedged.source_p99_s <= (1.0 - LEAST_CUT) * plain.source_p99_s,
        about="time",
    )


def extra_calls_are_few(hedged: Measured, done: str) -> Finding:
    """Hold when there were second calls, and at most 6 % of them."""
    is_whole = all(record.is_answered for record in hedged.records)
    return Finding(
        "hedging",
        done,
        f"some second calls, at most {MOST_CALLS - 1:.0%} more calls",
        f"{hedged.calls.made:,} calls for {len(hedged.records):,} requests, "
        f"{hedged.calls_a_request - 1:+.1%}",
        is_held=1.0 < hedged.calls_a_request <= MOST_CALLS,
        # A request that a slow machine refused makes no call at all, and hides a second one.
        about="time" if hedged.calls_a_request <= 1.0 and not is_whole else "state",
    )


def extra_calls_end(lasting: Measured) -> Finding:
    """Hold when the outage, once it lasts, is answered with no second call."""
    extra = lasting.calls.made - len(lasting.records)
    return Finding(
        "hedging",
        f"no call of {HEDGED_LEAF} answered, after {len(lasting.records)} requests of it",
        "extra calls go to 0",
        f"{max(extra, 0)} in the next {len(lasting.records)} requests",
        is_held=0 < lasting.calls.hit == lasting.calls.made and extra <= 0,
    )


def _usual_latency_s(stage: Stage, gateway: int) -> float:
    records = _measured(stage, f"usual-{gateway}", gateway, WARM_REQUESTS).records
    parts = [record.sources[HEDGED_LEAF] for record in records if record.is_answered]
    return median(part.latency_s for part in parts if part.latency_s is not None)


def _measured(stage: Stage, name: str, gateway: int, requests: int) -> Measured:
    targets = (stage.mesh.gateways()[gateway],)
    before = stage.mesh.calls_of(HEDGED_LEAF)
    per_s = SMALL_PER_S if stage.is_small else PER_S
    with stage.load(name, targets=targets, per_s=per_s, requests=requests) as load:
        records = load.wait(seconds_for(requests, per_s) + 30.0)
    return Measured(records, stage.mesh.calls_of(HEDGED_LEAF) - before)


def _outage(stage: Stage) -> Measured:
    with stage.mesh.all_faulty(HEDGED_LEAF, _slow(1.0, OUTAGE_S)):
        _measured(stage, "outage-begins", HEDGING, OUTAGE_REQUESTS)  # uses up what was saved
        return _measured(stage, "outage-lasts", HEDGING, OUTAGE_REQUESTS)


def _slow(share: float, delay_s: float) -> Fault:
    return Fault(FaultKind.SLOW, delay_s=(delay_s, delay_s), share=share)


SCENARIO = Scenario(
    "hedging", "2 % of one leaf's calls ten times slower, then none answered", CALLS_PLAN, run
)
