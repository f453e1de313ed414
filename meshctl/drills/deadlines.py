"""Every call that reaches a leaf carries what is left of its caller's time."""

from collections.abc import Mapping, Sequence

from meshctl.drills.plans import CALLS_PLAN
from meshctl.drills.report import Finding
from meshctl.drills.rolling_restart import restart
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage, seconds_for
from meshctl.drills.verdicts import BUDGET_S, Subject, no_request_failed
from meshctl.faults import Counts

REQUESTS = 3_000
PER_S = 60.0
DONE = "{:,} requests, calls seen by a proxy before every leaf"


def run(stage: Stage) -> Sequence[Finding]:
    """Ask, and read the deadlines that the proxies saw."""
    requests = SMALL_REQUESTS if stage.is_small else REQUESTS
    _count_anew(stage)
    with stage.load("deadlines", per_s=PER_S, requests=requests) as load:
        records = load.wait(seconds_for(requests, PER_S) + 30.0)
    counts = {name: stage.mesh.faults_of(name).fresh_counts() for name in stage.mesh.leaves()}
    done = DONE.format(len(records))
    return (
        no_request_failed(Subject("deadlines", done), records, at_least=requests),
        every_call_has_less_than(BUDGET_S, counts, done),
    )


def every_call_has_less_than(limit_s: float, counts: Mapping[str, Counts], done: str) -> Finding:
    """Hold when each leaf was called, always with a deadline strictly between 0 and `limit_s`."""
    calls = sum(each.mesh_calls for each in counts.values())
    without = sum(each.without_deadline for each in counts.values())
    least_s = min((each.least_remaining_s or 0.0 for each in counts.values()), default=0.0)
    most_s = max((each.most_remaining_s or 0.0 for each in counts.values()), default=0.0)
    is_every_leaf_called = bool(counts) and all(each.mesh_calls for each in counts.values())
    are_given = is_every_leaf_called and not without and 0.0 < most_s < limit_s
    return Finding(
        "deadlines",
        done,
        f"a leaf has more than 0 and less than the caller's {limit_s * 1e3:.0f} ms",
        f"{least_s * 1e3:.1f} to {most_s * 1e3:.1f} ms in {calls:,} calls, {without} without",
        is_held=are_given and least_s > 0.0,
        # A call can lose the rest of its time on its way through a proxy on a busy core.
        about="time" if are_given else "state",
    )


def _count_anew(stage: Stage) -> None:
    """Restart the proxies: before it served, the gateway called with time of its own."""
    for name in stage.mesh.leaves():
        restart(stage.mesh, f"fault-{name}")


SCENARIO = Scenario(
    "deadlines",
    "what of the caller's time each leaf call is given",
    CALLS_PLAN,
    run,
)
