"""Every process in turn is told to end under load, and comes back; no caller notices."""

import os
import signal
from collections.abc import Sequence

from meshctl.drills.heartbeat import Stalls
from meshctl.drills.mesh import DrillMesh
from meshctl.drills.plans import REDUNDANT_PLAN
from meshctl.drills.records import Record
from meshctl.drills.report import Finding
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage
from meshctl.drills.verdicts import Subject, no_request_failed, no_request_late
from meshctl.standard_mesh import LEAVES

PER_S = 50.0
SMALL_PER_S = 25.0
REQUESTS = 3_000
SETTLE_REQUESTS = 50
"""Answered after each restart before the next, so that no two overlap."""


def run(stage: Stage) -> Sequence[Finding]:
    """Restart one process after the other."""
    names = _in_turn(stage.mesh)
    if stage.is_small:
        names = [names[0], names[-1]]
    per_s = SMALL_PER_S if stage.is_small else PER_S
    least = SMALL_REQUESTS if stage.is_small else REQUESTS
    with stage.heartbeats() as heartbeats:
        with stage.load("rolling-restart", per_s=per_s) as load:
            for name in names:
                stage.say(f"{name} restarts")
                restart(stage.mesh, name)
                load.await_requests(len(load.records()) + SETTLE_REQUESTS)
            load.await_requests(least)
            records = load.stop()
        stalls = heartbeats.stalls()
    return findings(names, records, stalls, at_least=least)


def findings(
    names: Sequence[str], records: Sequence[Record], stalls: Stalls, *, at_least: int
) -> Sequence[Finding]:
    """Hold when no request failed and none was late."""
    subject = Subject("rolling-restart", f"{len(names)} processes restarted in turn, SIGTERM")
    return (
        no_request_failed(subject, records, at_least=at_least),
        no_request_late(subject, records, stalls),
    )


def restart(mesh: DrillMesh, name: str) -> None:
    """Tell a process to end and wait until its successor serves. Raises DrillError."""
    old = mesh.process(name).identity
    os.kill(old.pid, signal.SIGTERM)
    mesh.await_restart(name, old)


def _in_turn(mesh: DrillMesh) -> list[str]:
    """Return all but DynamoDB, which stands for a service that nobody restarts."""
    leaves = [name for leaf in LEAVES for name in mesh.workers_of(leaf)]
    return [*leaves, *mesh.workers_of("gateway")]


SCENARIO = Scenario(
    "rolling-restart",
    "every process of two gateways and two workers a leaf restarted in turn",
    REDUNDANT_PLAN,
    run,
)
