"""Three times what the mesh can do is asked of it, on one core, with the load on another."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from meshctl.drills.child import LoadProcess
from meshctl.drills.mesh import pin
from meshctl.drills.plans import PLAIN_PLAN
from meshctl.drills.records import LATE, OK, SHED, Record, between
from meshctl.drills.report import Finding
from meshctl.drills.served_spans import durations_s
from meshctl.drills.stage import Scenario, Stage
from meshctl.drills.verdicts import LATE_S, deadline_s, percentile
from meshctl.drills.vitals import Vitals, VitalsLog, growth_bytes

FIRST_PER_S = 40.0
STEP = 1.3
SMALL_STEP = 1.7
STEP_S = 4.0
SMALL_STEP_S = 1.5
MAX_STEPS = 14
PAST_PEAK = 0.8
"""When so little of the offered load is answered in time, more will not bring more."""
OVERLOAD = 3.0
STEADY_SHARE = 0.5
"""Of the peak: goes on beneath the overload and after it, to see the recovery."""
OVERLOAD_S = 20.0
SMALL_OVERLOAD_S = 4.0
RECOVERY_S = 5.0
AFTER_S = 8.0
SMALL_AFTER_S = 3.0
LEAST_GOODPUT = 0.8
MOST_SHED_S = 0.005
MOST_GROWTH_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Overload:
    """What was measured."""

    peak_per_s: float
    records: Sequence[Record]
    """Of both loads, the overload and what went on beneath it."""
    began_s: float
    ended_s: float
    growth: Mapping[str, int]
    """Bytes by process."""
    shed_s: Sequence[float] = ()
    """How long the gateway took over calls that it refused, of those that were traced."""

    @property
    def during(self) -> Sequence[Record]:
        """Return the requests of the overload."""
        return between(self.records, self.began_s, self.ended_s)

    @property
    def done(self) -> str:
        """Say what was done."""
        offered = len(self.during) / (self.ended_s - self.began_s)
        return f"{offered:.0f} requests/s offered, peak {self.peak_per_s:.0f}/s, mesh on one core"


def run(stage: Stage) -> Sequence[Finding]:
    """Pin, find the peak, go three times beyond it, and let go."""
    cores = sorted(os.sched_getaffinity(0))
    mesh_cores, load_cores = (cores[0],), (cores[-1],)
    pin(list(stage.mesh.pids().values()), mesh_cores)
    try:
        measured = _measure(stage, load_cores)
    finally:
        pin(list(stage.mesh.pids().values()), cores)
    return (
        goodput_holds(measured),
        admitted_in_time(measured),
        shed_at_once(measured),
        only_refused_or_late(measured),
        memory_holds(measured),
        recovers(measured),
    )


def goodput_holds(measured: Overload) -> Finding:
    """Hold when answers in time stay at 80 % of the peak or above."""
    per_s = goodput_per_s(measured.during, measured.ended_s - measured.began_s)
    share = per_s / measured.peak_per_s if measured.peak_per_s else 0.0
    return Finding(
        "overload",
        measured.done,
        f"answers in time stay at {LEAST_GOODPUT:.0%} of the peak",
        f"{per_s:.0f}/s, {share:.0%} of the peak",
        is_held=share >= LEAST_GOODPUT,
        about="time",
    )


def admitted_in_time(measured: Overload) -> Finding:
    """Hold when 99 of 100 requests that were not refused were answered in time."""
    # One that its caller no longer waits for was admitted as well, and is late.
    admitted = [record for record in measured.during if record.outcome != SHED]
    p99_s = percentile([record.latency_s for record in admitted], 99)
    given_up = sum(not record.is_answered for record in admitted)
    limit_s = min((deadline_s(record) for record in admitted), default=0.0)
    return Finding(
        "overload",
        measured.done,
        f"p99 of admitted requests within {limit_s * 1e3:.0f} ms",
        f"{p99_s * 1e3:.0f} ms of {len(admitted):,}, {given_up:,} of them not answered",
        is_held=bool(admitted) and p99_s <= limit_s,
        about="time",
    )


def shed_at_once(measured: Overload) -> Finding:
    """Hold when refusals are quick, as the gateway's own spans say.

    The caller waits longer: until the gateway sees the call, on a core that others keep busy.
    """
    at_caller_s = [record.latency_s for record in measured.during if record.outcome == SHED]
    p99_s = percentile(measured.shed_s, 99)
    return Finding(
        "overload",
        measured.done,
        f"refused within {MOST_SHED_S * 1e3:.0f} ms, in the gateway",
        f"{len(measured.shed_s):,} spans of {len(at_caller_s):,} refused: p50 "
        f"{percentile(measured.shed_s, 50) * 1e3:.1f}, p99 {p99_s * 1e3:.1f} ms; "
        f"p99 {percentile(at_caller_s, 99) * 1e3:.0f} ms at the caller",
        is_held=bool(measured.shed_s) and p99_s <= MOST_SHED_S,
        about="time",
    )


def only_refused_or_late(measured: Overload) -> Finding:
    """Hold when some requests were refused, and none failed but by being late."""
    usual = {OK, SHED, LATE}
    others = Counter(r.outcome for r in measured.during if r.outcome not in usual)
    shed = sum(record.outcome == SHED for record in measured.during)
    empty = sum(record.is_answered and not record.items for record in measured.during)
    others.update({"EMPTY": empty} if empty else {})
    return Finding(
        "overload",
        measured.done,
        f"some requests are refused ({SHED}), none fails but by being late",
        f"{shed:,} refused, failed: {dict(others) or 'none'}",
        is_held=shed > 0 and not others,
        about="state" if others else "time",  # a stall may hide the peak, and three times of it
    )


def memory_holds(measured: Overload) -> Finding:
    """Hold when no process grew by more than 50 MB."""
    name, most = max(measured.growth.items(), key=lambda each: each[1], default=("none", 0))
    return Finding(
        "overload",
        measured.done,
        f"no process grows by more than {MOST_GROWTH_BYTES / 1e6:.0f} MB",
        f"{name} by {most / 1e6:.1f} MB",
        is_held=bool(measured.growth) and most <= MOST_GROWTH_BYTES,
    )


def recovers(measured: Overload) -> Finding:
    """Hold when within 5 s no request is refused, fails or is late any more."""
    after = between(measured.records, measured.ended_s, float("inf"))
    bad = [record.began_s for record in after if not is_good(record)]
    recovery_s = max(bad, default=measured.ended_s) - measured.ended_s
    return Finding(
        "overload",
        f"back to {STEADY_SHARE:.0%} of the peak",
        f"every request answered in time within {RECOVERY_S:.0f} s",
        f"after {recovery_s:.1f} s" if after else "no request was made",
        is_held=bool(after) and recovery_s <= RECOVERY_S,
        about="time",
    )


def is_good(record: Record) -> bool:
    """Tell whether an answer came in time."""
    return record.is_answered and record.latency_s <= deadline_s(record) + LATE_S


def goodput_per_s(records: Sequence[Record], seconds: float) -> float:
    """Return the answers in time for each second."""
    return sum(map(is_good, records)) / seconds


def find_peak_per_s(stage: Stage, cores: tuple[int, ...]) -> float:
    """Return the most answers in time a second, offering more and more."""
    per_s, peak_per_s = FIRST_PER_S, 0.0
    seconds = SMALL_STEP_S if stage.is_small else STEP_S
    for number in range(MAX_STEPS):
        requests = int(per_s * seconds)
        with _load(stage, f"peak-{number}", cores, per_s, requests) as load:
            records = load.wait(seconds + 30.0)
        goodput = goodput_per_s(records, requests / per_s)
        stage.say(f"{per_s:.0f} requests/s offered, {goodput:.0f}/s answered in time")
        peak_per_s = max(peak_per_s, goodput)
        if goodput < PAST_PEAK * per_s:
            break
        per_s *= SMALL_STEP if stage.is_small else STEP
    return peak_per_s


def _measure(stage: Stage, cores: tuple[int, ...]) -> Overload:
    peak_per_s = find_peak_per_s(stage, cores)
    seconds = SMALL_OVERLOAD_S if stage.is_small else OVERLOAD_S
    with ExitStack() as stack:
        vitals = stack.enter_context(VitalsLog(stage.mesh.pids))
        steady = stack.enter_context(_load(stage, "steady", cores, STEADY_SHARE * peak_per_s))
        more_per_s = (OVERLOAD - STEADY_SHARE) * peak_per_s
        requests = int(more_per_s * seconds)
        with _load(stage, "overload", cores, more_per_s, requests) as load:
            stage.say(f"{OVERLOAD * peak_per_s:.0f} requests/s for {seconds:.0f} s")
            more = load.wait(seconds + 60.0)
        began_s, ended_s = more[0].began_s, more[-1].began_s
        after_s = SMALL_AFTER_S if stage.is_small else AFTER_S
        time.sleep(max(0.0, ended_s + after_s - time.monotonic()))
        beneath = steady.stop()
        growth = _growth(vitals.of())
    records = sorted((*beneath, *more), key=lambda record: record.began_s)
    shed_s = durations_s(stage.mesh.traces, SHED)
    return Overload(peak_per_s, records, began_s, ended_s, growth, shed_s)


def _load(
    stage: Stage, name: str, cores: tuple[int, ...], per_s: float, requests: int = 0
) -> AbstractContextManager[LoadProcess]:
    """Run a load with the timeout of real callers: more would have them wait in the gateway."""
    return stage.load(name, per_s=per_s, requests=requests, cores=cores, timeout_s=0.0)


def _growth(vitals: Mapping[str, Sequence[Vitals]]) -> dict[str, int]:
    return {name: growth_bytes(notes) for name, notes in vitals.items()}


SCENARIO = Scenario("overload", "three times the load that the mesh can answer", PLAIN_PLAN, run)
