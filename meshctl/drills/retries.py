"""All workers of one kind answer UNAVAILABLE: retries must not double the load of an outage."""

from collections.abc import Sequence

from meshctl.drills.mesh import LeafCalls
from meshctl.drills.plans import CALLS_PLAN
from meshctl.drills.report import Finding
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage, seconds_for
from meshctl.drills.verdicts import Subject, no_request_failed
from meshctl.faults import Fault, FaultKind
from meshctl.standard_mesh import LEAVES

REQUESTS = 1_000
"""For each kind of leaf."""
PER_S = 60.0
SMALL_LEAVES = ("similar",)
MOST_ATTEMPTS = 1.2


def run(stage: Stage) -> Sequence[Finding]:
    """Fail one kind of leaf after the other."""
    leaves = SMALL_LEAVES if stage.is_small else LEAVES
    return [finding for leaf in leaves for finding in _of_leaf(stage, leaf)]


def _of_leaf(stage: Stage, leaf: str) -> Sequence[Finding]:
    stage.say(f"{leaf} unavailable")
    requests = SMALL_REQUESTS if stage.is_small else REQUESTS
    with stage.mesh.all_faulty(leaf, Fault(FaultKind.UNAVAILABLE)):
        before = stage.mesh.calls_of(leaf)
        with stage.load(f"retries-{leaf}", per_s=PER_S, requests=requests) as load:
            records = load.wait(seconds_for(requests, PER_S) + 30.0)
        calls = stage.mesh.calls_of(leaf) - before
    done = f"every worker of {leaf} answers UNAVAILABLE"
    return (
        no_request_failed(Subject("retries", done), records, at_least=requests),
        attempts_are_bounded(calls, len(records), done),
    )


def attempts_are_bounded(calls: LeafCalls, requests: int, done: str) -> Finding:
    """Hold when every call was refused, and there were at most 1.2 a request."""
    return Finding(
        "retries",
        done,
        f"attempts / requests <= {MOST_ATTEMPTS}",
        f"{calls.made:,} / {requests:,} = {calls.made / max(requests, 1):.3f}, "
        f"{calls.hit:,} of them refused",
        is_held=0 < calls.hit == calls.made <= MOST_ATTEMPTS * requests,
    )


SCENARIO = Scenario(
    "retries",
    "all workers of one kind answering UNAVAILABLE",
    CALLS_PLAN,
    run,
)
