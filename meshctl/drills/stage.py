"""What a scenario is given to work with, and how it is listed."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from meshctl.drills.child import Heartbeats, LoadProcess, running_load
from meshctl.drills.load import LoadPlan
from meshctl.drills.mesh import DrillMesh, MeshPlan
from meshctl.drills.report import Finding
from meshctl.drills.world import World

SMALL_REQUESTS = 300
SMALL_TIMEOUT_S = 0.9
"""What callers of a small drill allow, so that a busy machine fails no request. The gateway keeps
to its own 150 ms all the same, and does not take them for callers who would wait for a place."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A mesh that serves, and a directory for what a drill writes."""

    mesh: DrillMesh
    world: World
    directory: Path
    is_small: bool
    say: Callable[[str], None]
    """Tells a person how far the drill has come."""

    def load(
        self, name: str, **plan: float | tuple[int, ...] | tuple[str, ...]
    ) -> AbstractContextManager[LoadProcess]:
        """Run a load on the mesh's gateways; `plan` are fields of `LoadPlan`."""
        fields: Mapping[str, object] = {
            "targets": self.mesh.gateways(),
            "slates": self.world.slates,
            "timeout_s": SMALL_TIMEOUT_S if self.is_small else 0.0,
            "records": str(self.directory / f"{name}.jsonl"),
            **plan,
        }
        return running_load(LoadPlan(**fields))  # type: ignore[arg-type]  # fields of the plan

    def heartbeats(self) -> Heartbeats:
        """Watch each core by itself: a stall of one is hidden by the other."""
        return Heartbeats(self.directory, [[core] for core in sorted(os.sched_getaffinity(0))])


Run = Callable[[Stage], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drill: what it needs and how it is run."""

    name: str
    summary: str
    plan: MeshPlan
    run: Run = field(repr=False)


def wait_until(is_so: Callable[[], bool], *, limit_s: float, every_s: float = 0.1) -> bool:
    """Poll; tell whether it came true in time."""
    gives_up_s = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > gives_up_s:
            return False
        time.sleep(every_s)
    return True


def seconds_for(requests: int, per_s: float) -> float:
    """Return how long a rate takes for so many requests."""
    return math.ceil(requests / per_s)
