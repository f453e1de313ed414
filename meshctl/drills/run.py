"""Runs drills, those that need the same mesh one after the other on one."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from meshctl.drills import (
    deadlines,
    dynamodb_faults,
    hedging,
    leaf_faults,
    leaks,
    overload,
    retries,
    rolling_restart,
)
from meshctl.drills.child import DrillError
from meshctl.drills.mesh import drill_mesh
from meshctl.drills.report import Finding
from meshctl.drills.stage import Scenario, Stage
from meshctl.drills.world import World
from meshctl.faults import FaultControlError

SCENARIOS: Sequence[Scenario] = (
    leaf_faults.SCENARIO,
    dynamodb_faults.SCENARIO,
    deadlines.SCENARIO,
    retries.SCENARIO,
    hedging.SCENARIO,
    overload.SCENARIO,
    leaks.SCENARIO,
    rolling_restart.SCENARIO,
)
"""In the order that they run; neighbours with the same plan share a mesh."""


def run_drills(
    scenarios: Sequence[Scenario],
    world: World,
    directory: Path,
    *,
    is_small: bool,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    """Yield what each drill found. Raises MeshError when a mesh does not start."""
    for number, (plan, sharing) in enumerate(groupby(scenarios, key=lambda each: each.plan)):
        mesh_directory = directory / f"mesh-{number}"
        say("starting a mesh")
        with drill_mesh(plan, world, mesh_directory, say) as mesh:
            for scenario in sharing:
                own = directory / scenario.name
                own.mkdir(parents=True, exist_ok=True)
                stage = Stage(mesh, world, own, is_small, _prefixed(scenario, say))
                yield from run_drill(scenario, stage)


def run_drill(scenario: Scenario, stage: Stage) -> Sequence[Finding]:
    """Return what a drill found; one that could not be run to its end holds nothing."""
    try:
        return scenario.run(stage)
    except (DrillError, FaultControlError) as exc:
        what = "the drill runs to its end"
        return [Finding(scenario.name, scenario.summary, what, str(exc), is_held=False)]


def _prefixed(scenario: Scenario, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(f"{scenario.name}: {line}")
