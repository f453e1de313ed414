"""Many requests, some of which run into their deadline or are given up: no process grows."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from meshctl.drills.plans import PLAIN_PLAN
from meshctl.drills.records import GIVEN_UP, LATE, Record
from meshctl.drills.report import Finding
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage
from meshctl.drills.vitals import Vitals, VitalsLog, theil_sen

REQUESTS = 40_000
CALLERS = 8
LIMIT_S = 900.0
SHORT_SHARE = 0.10
CANCELLED_SHARE = 0.05
WARM_SHARE = 0.25
"""Of the requests, which fill caches, pools and the allocator's arenas."""
MOST_BYTES = 300.0
LEAST_SHARE = 0.6
"""Of those meant to fail, some are answered before."""


def run(stage: Stage) -> Sequence[Finding]:
    """Ask, and watch every process meanwhile."""
    requests = SMALL_REQUESTS if stage.is_small else REQUESTS
    stage.say(f"{requests:,} requests, {CALLERS} at a time")
    with VitalsLog(stage.mesh.service_pids) as vitals:
        began_s = time.monotonic()
        with stage.load(
            "leaks",
            callers=CALLERS,
            requests=requests,
            short_share=SHORT_SHARE,
            cancelled_share=CANCELLED_SHARE,
        ) as load:
            records = load.wait(LIMIT_S)
        stage.say(f"took {time.monotonic() - began_s:.0f} s")
    return (
        meant_ones_failed(records),
        *(does_not_grow(name, notes, records) for name, notes in vitals.of().items()),
    )


def meant_ones_failed(records: Sequence[Record]) -> Finding:
    """Hold when about as many ran into their deadline, or were given up, as were to."""
    outcomes = Counter(record.outcome for record in records)
    late, given_up = outcomes[LATE], outcomes[GIVEN_UP]
    least_late = LEAST_SHARE * SHORT_SHARE * len(records)
    least_given_up = LEAST_SHARE * CANCELLED_SHARE * len(records)
    return Finding(
        "leaks",
        f"{len(records):,} requests",
        f"about {SHORT_SHARE:.0%} run into their deadline, {CANCELLED_SHARE:.0%} are given up",
        f"{late:,} and {given_up:,}",
        is_held=bool(records) and late >= least_late and given_up >= least_given_up,
    )


def does_not_grow(name: str, notes: Sequence[Vitals], records: Sequence[Record]) -> Finding:
    """Hold when the memory of a process grows by at most 300 bytes a request, once warm."""
    ended_s = sorted(record.ended_s for record in records)
    points = [(float(bisect_right(ended_s, note.at_s)), float(note.rss_bytes)) for note in notes]
    warm = [point for point in points if point[0] >= WARM_SHARE * len(records)]
    slope = theil_sen(warm)
    return Finding(
        "leaks",
        name,
        f"RSS slope of at most {MOST_BYTES:.0f} bytes a request",
        f"{slope:+.0f} bytes a request (Theil-Sen, {len(warm)} notes), "
        f"{(warm[-1][1] if warm else 0.0) / 1e6:.0f} MB in the end",
        is_held=len(warm) > 1 and slope <= MOST_BYTES,
        about="time",
    )


SCENARIO = Scenario(
    "leaks",
    "40,000 requests, 10 % running into their deadline and 5 % given up",
    PLAIN_PLAN,
    run,
)
