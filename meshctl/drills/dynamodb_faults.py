"""DynamoDB answers errors, throttles and hangs; trending goes stale and says so."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshctl.drills.plans import BYTES_PLAN, MAX_AGE_S
from meshctl.drills.records import Record, between
from meshctl.drills.report import Finding
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage, wait_until
from meshctl.drills.verdicts import Subject, no_request_failed
from meshctl.drills.vitals import VitalsLog, cpu_between
from meshctl.faults import Fault, FaultKind

TRENDING = "trending"
KINDS = (FaultKind.ERRORS, FaultKind.THROTTLE, FaultKind.HANG)
PER_S = 50.0
FAULT_S = 60.0
SMALL_FAULT_S = 8.0
SMALL_WELL_S = 3.0
"""Before the faults: what a request costs then is a promise about time."""
RECOVERY_LIMIT_S = 90.0
"""Between failed reads the trending service pauses for seconds; a busy machine takes longer."""
GRACE_S = 1.5
"""From the limit of age on, until answers surely say STALE: a read that was under way."""
MOST_CPU = 1.2
"""Of what a request cost before: as much as it differs between two quiet minutes."""
STALE_SHARE = 0.9
"""Of the answers; in a few trending may be late, and coverage says that instead."""
LATELY = 50
"""Answers that are looked at to tell whether trending is fresh."""
GROWTH_SLACK = 0.2
"""The data age grows by as much as time passes, but for when exactly it was read."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which one thing was wrong, or nothing; seconds of the monotonic clock."""

    kind: FaultKind
    began_s: float
    ended_s: float
    cpu_s: float = 0.0
    """Processor time of the trending process."""


def run(stage: Stage) -> Sequence[Finding]:
    """Break DynamoDB in three ways, with a time to recover before each."""
    seconds = SMALL_FAULT_S if stage.is_small else FAULT_S
    well_s = SMALL_WELL_S if stage.is_small else FAULT_S
    windows: list[Window] = []
    with VitalsLog(stage.mesh.pids) as vitals, stage.load("dynamodb", per_s=PER_S) as load:
        stage.say("DynamoDB is well")
        wait_until(lambda: _is_fresh(load.records()), limit_s=RECOVERY_LIMIT_S)
        windows.append(_window(stage, FaultKind.NONE, well_s))
        for kind in KINDS:
            stage.say(f"DynamoDB: {kind}")
            windows.append(_window(stage, kind, seconds))
            wait_until(lambda: _is_fresh(load.records()), limit_s=RECOVERY_LIMIT_S)
        records = load.stop()
    notes = vitals.of()[stage.mesh.workers_of(TRENDING)[0]]
    measured = [
        Window(w.kind, w.began_s, w.ended_s, cpu_between(notes, w.began_s, w.ended_s))
        for w in windows
    ]
    return tuple(_findings(measured, records, at_least=SMALL_REQUESTS))


def _findings(
    windows: Sequence[Window], records: Sequence[Record], *, at_least: int
) -> Iterator[Finding]:
    done = f"DynamoDB {', '.join(KINDS)}, {windows[-1].ended_s - windows[-1].began_s:.0f} s each"
    yield no_request_failed(Subject("dynamodb-faults", done), records, at_least=at_least)
    before, *faulty = windows
    for window in faulty:
        yield goes_stale(window, records)
        yield costs_no_more(before, window, records)
    yield recovers(faulty[-1], records)


def goes_stale(window: Window, records: Sequence[Record]) -> Finding:
    """Hold when no answer beyond the limit says OK, and STALE ones an age that grows with time."""
    from_s = window.began_s + MAX_AGE_S + GRACE_S
    meant = [record for record in between(records, from_s, window.ended_s) if record.is_answered]
    stale = [record for record in meant if record.status_of(TRENDING) == "STALE"]
    fresh = sum(record.status_of(TRENDING) == "OK" for record in meant)
    return Finding(
        "dynamodb-faults",
        f"DynamoDB {window.kind}",
        f"trending STALE beyond {MAX_AGE_S:.0f} s, its age growing",
        f"{len(stale):,} of {len(meant):,} answers STALE, {fresh} OK; "
        f"its age grew {_growth(stale):.2f} s a second",
        is_held=not fresh
        and len(stale) >= STALE_SHARE * max(len(meant), 1)
        and abs(_growth(stale) - 1.0) <= GROWTH_SLACK,
        # Few answers, or late ones, are a slow machine's; another status is not.
        about="state" if fresh or (meant and not stale) else "time",
    )


def _growth(stale: Sequence[Record]) -> float:
    """Return by how much the data age grew for each second that passed."""
    if len(stale) < 2:  # noqa: PLR2004 - growth is between two
        return 0.0
    grown_s = _age_s(stale[-1]) - _age_s(stale[0])
    return grown_s / (stale[-1].ended_s - stale[0].ended_s)


def _age_s(record: Record) -> float:
    return record.sources[TRENDING].data_age_s or 0.0


def costs_no_more(before: Window, window: Window, records: Sequence[Record]) -> Finding:
    """Hold when a request costs the trending process at most 1.2 times of before."""
    usual_s, now_s = (_cpu_a_request(each, records) for each in (before, window))
    return Finding(
        "dynamodb-faults",
        f"DynamoDB {window.kind}",
        f"processor time of trending a request at most {MOST_CPU} times of before",
        f"{usual_s * 1e3:.2f} to {now_s * 1e3:.2f} ms",
        is_held=0.0 < now_s <= MOST_CPU * usual_s,
        about="time",
    )


def recovers(last: Window, records: Sequence[Record]) -> Finding:
    """Hold when trending is OK again in the end."""
    is_fresh = _is_fresh(records)
    took_s = max((r.began_s for r in records), default=last.ended_s) - last.ended_s
    return Finding(
        "dynamodb-faults",
        "DynamoDB is well again",
        "trending OK again",
        f"after {took_s:.1f} s" if is_fresh else "it is not",
        is_held=is_fresh,
    )


def _cpu_a_request(window: Window, records: Sequence[Record]) -> float:
    return window.cpu_s / max(len(between(records, window.began_s, window.ended_s)), 1)


def _is_fresh(records: Sequence[Record]) -> bool:
    """Tell whether trending was OK in the newest answer that it was in time for."""
    statuses = [record.status_of(TRENDING) for record in records[-LATELY:]]
    in_time = [status for status in statuses if status in {"OK", "STALE"}]
    return in_time[-1:] == ["OK"]


def _window(stage: Stage, kind: FaultKind, seconds: float) -> Window:
    with stage.mesh.faults_of("dynamodb").injected(Fault(kind)):
        began_s = time.monotonic()
        time.sleep(seconds)
        ended_s = time.monotonic()
    return Window(kind, began_s, ended_s)


SCENARIO = Scenario(
    "dynamodb-faults", "DynamoDB answering errors, throttling and hanging", BYTES_PLAN, run
)
