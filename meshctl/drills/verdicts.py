"""Promises that several drills measure on the records of a load."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from meshctl.drills.heartbeat import Stalls
from meshctl.drills.records import LATE, SHED, Record
from meshctl.drills.report import Finding

BUDGET_S = 0.150
"""What the gateway allows itself on the surface "home"."""
LATE_S = 0.010
EXCUSED = 0.01
"""Share of the requests that may suffer from the machine itself."""
EXCUSED_REFUSALS = 0.10
"""The same of those refused: a machine that is slow throughout makes the gateway full."""
TARDY_S = 0.1
"""So late the load itself, or its timers, only is where the machine stood still."""
CATCHING_UP_S = 2.0
"""For so long after it what was due meanwhile is asked, all at once."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which drill a finding is of, and what was done."""

    drill: str
    done: str


def no_request_failed(subject: Subject, records: Sequence[Record], *, at_least: int) -> Finding:
    """Hold when `at_least` requests were made and each was answered with items."""
    unanswered = [record for record in records if not record.is_answered]
    outcomes = Counter(record.outcome for record in unanswered)
    empty = sum(record.is_answered and not record.items for record in records)
    outcomes.update({"EMPTY": empty} if empty else {})
    failed = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    is_only_slow = set(outcomes) <= {SHED, LATE} and _are_few(unanswered, records)
    return Finding(
        subject.drill,
        subject.done,
        f"0 failed of at least {at_least:,} requests",
        f"{failed or '0 failed'} of {len(records):,}",
        is_held=not outcomes and len(records) >= at_least,
        about="time" if outcomes and is_only_slow else "state",
    )


def _are_few(failed: Sequence[Record], records: Sequence[Record]) -> bool:
    """Tell whether few enough were refused or late for a slow machine to be the reason."""
    stalls = _stalls_of_the_load(records)
    unexplained = [record for record in failed if not stalls.overlap(record)]
    late = sum(record.outcome == LATE for record in unexplained)
    return late <= EXCUSED * len(records) and len(unexplained) <= EXCUSED_REFUSALS * len(records)


def _stalls_of_the_load(records: Sequence[Record]) -> Stalls:
    return Stalls.of(
        (record.due_s, record.ended_s + CATCHING_UP_S)
        for record in records
        if max(record.began_s - record.due_s, record.latency_s - record.timeout_s) > TARDY_S
    )


def no_request_late(subject: Subject, records: Sequence[Record], stalls: Stalls) -> Finding:
    """Hold when no request took longer than its deadline and 10 ms, but for few in stalls."""
    late = [record for record in records if record.latency_s > deadline_s(record) + LATE_S]
    excused = sum(map(stalls.overlap, late))
    slowest_s = max((record.latency_s for record in records), default=0.0)
    return Finding(
        subject.drill,
        subject.done,
        f"0 later than deadline + {LATE_S * 1e3:.0f} ms but for stalls, at most {EXCUSED:.0%}",
        f"{len(late) - excused} late, {excused} in stalls; slowest {slowest_s * 1e3:.0f} ms, p99 "
        f"{percentile([r.latency_s for r in records], 99) * 1e3:.0f} ms; stalls of "
        f"{stalls.total_s():.1f} s; sent up to {_most_tardy_s(records) * 1e3:.0f} ms after due",
        is_held=bool(records) and len(late) == excused <= EXCUSED * len(records),
        about="time",
    )


def _most_tardy_s(records: Sequence[Record]) -> float:
    """Return by how much the load itself was late to ask; latency counts from the asking."""
    return max((record.began_s - record.due_s for record in records), default=0.0)


def deadline_s(record: Record) -> float:
    """Return when a request had to be answered: the caller's timeout, or the surface's budget."""
    return min(record.timeout_s, BUDGET_S)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile (1 to 99); 0 of nothing."""
    if len(values) < 2:  # noqa: PLR2004 - quantiles are between values
        return next(iter(values), 0.0)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
