"""What tracing costs a request: `make bench`, or `python -m benchmarks.tracing --bundles DIR`.

Six equal meshes stand side by side, which differ in their OpenTelemetry variables only: tracing
off, 1 % and 100 % of the requests sampled with a collector that takes everything, 1 % with a
collector that is not there and with one that never answers, and neither traces nor metrics. All
others have metrics, so that what is compared is tracing. They are asked in turn, forth and back
(ABBA), so that a machine that grows slower does so for all. Processor time is that of all
processes of a mesh.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.machine import cpu_s, machine_facts
from meshctl.drills.child import running_load
from meshctl.drills.load import LoadPlan
from meshctl.drills.world import World, open_world, train_world
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.prepare import prepare_dynamodb
from meshctl.standard_mesh import SOURCES, STANDARD_PARTS, MeshSettings, standard_specs
from pipeline.recipe import DEFAULT, Recipe

OFF = "off"
CALLERS = 2
WARM_REQUESTS = 100
ROUND_LIMIT_S = 60.0
SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}


@dataclass(slots=True)
class Variant:
    """One mesh, and what was measured of it."""

    name: str
    env: Mapping[str, str]
    gateway: str = ""
    pids: Sequence[int] = ()
    cpu_ms: list[float] = field(default_factory=list)
    """Of each round, a request."""
    latencies_ms: list[list[float]] = field(default_factory=list)
    """Of each round, every request's."""
    failed: int = 0


def variants(collector: str, silent: str) -> list[Variant]:
    """Return what is compared; the first is what the others are compared with."""

    def exported(address: str, share: float) -> dict[str, str]:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"}
        return {**endpoint, **SAMPLED, "OTEL_TRACES_SAMPLER_ARG": str(share)}

    return [
        Variant(OFF, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://{collector}"}),
        Variant("1 %", exported(collector, 0.01)),
        Variant("100 %", exported(collector, 1.0)),
        Variant("1 %, collector not there", exported("127.0.0.1:1", 0.01)),
        Variant("1 %, collector silent", exported(silent, 0.01)),
        Variant("off, no metrics", {}),
    ]


@contextmanager
def collectors() -> Iterator[tuple[str, str]]:
    """Run the stand-ins; yield the address of the good one and of the silent one."""
    command = [sys.executable, "-m", "benchmarks.collectors"]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        collector, silent = process.stdout.readline().split()
        yield collector, silent
        process.communicate()


@contextmanager
def running_mesh(variant: Variant, world: World, directory: Path) -> Iterator[None]:
    """Run the variant's mesh until the block ends."""
    directory.mkdir()
    names = [f"candidates-{part}" if part in SOURCES else part for part in STANDARD_PARTS]
    settings = MeshSettings(
        bundles=world.bundles,
        bundle_version=world.version,
        prepare_dynamodb=lambda endpoint: prepare_dynamodb(
            endpoint, bundles=world.bundles, version=world.version
        ),
        extra_env=dict.fromkeys(names, variant.env),
        port=0,
        control_file=directory / "control.json",
        state_directory=directory,
    )
    specs = standard_specs(settings)
    facts = MeshFacts(bundles=str(world.bundles), clock=settings.clock)
    with LocalMesh(specs, state_directory=directory, facts=facts, say=print) as mesh:
        mesh.start()
        variant.gateway = mesh.address("gateway")
        variant.pids = [process.identity.pid for process in mesh.processes()]
        yield


def ask(variant: Variant, world: World, records: Path, requests: int) -> None:
    """Ask so many times, and note what it cost."""
    plan = LoadPlan(
        targets=(variant.gateway,),
        slates=world.slates,
        records=str(records),
        callers=CALLERS,
        requests=requests,
    )
    with running_load(plan) as load:
        before_s = cpu_s(variant.pids)
        answered = load.wait(ROUND_LIMIT_S)
        spent_s = cpu_s(variant.pids) - before_s
    variant.cpu_ms.append(spent_s / len(answered) * 1e3)
    variant.latencies_ms.append([record.latency_s * 1e3 for record in answered])
    variant.failed += sum(not record.is_answered for record in answered)


def compare(compared: Sequence[Variant], world: World, directory: Path, plan: "Plan") -> None:
    """Measure every variant in turn, forth and back, each time from another one on.

    The last of a turn is the first of the next, and 2 to 6 % cheaper for that: it still has the
    processor's caches. So every variant has to be that as often as the others.
    """
    for variant in compared:
        ask(variant, world, directory / "warm.jsonl", WARM_REQUESTS)
        variant.cpu_ms.clear()
        variant.latencies_ms.clear()
    for number in range(plan.rounds):
        for variant in turn(compared, number):
            ask(variant, world, directory / "records.jsonl", plan.requests)
        print(f"round {number + 1} of {plan.rounds}", file=sys.stderr)


def turn(compared: Sequence[Variant], number: int) -> list[Variant]:
    """Return the order of a round."""
    first = number // 2 % len(compared)
    order = [*compared[first:], *compared[:first]]
    return order if number % 2 == 0 else order[::-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    requests: int


def summary(variant: Variant, off: Variant) -> dict[str, object]:
    """Return medians over the rounds, and of each round's ratio to tracing off."""
    return {
        "variant": variant.name,
        "cpu_ms": statistics.median(variant.cpu_ms),
        "cpu_ratio": _ratio(variant.cpu_ms, off.cpu_ms),
        "p50_ms": _over_rounds(variant, 50),
        "p50_ratio": _ratio(_percentiles(variant, 50), _percentiles(off, 50)),
        "p99_ms": _over_rounds(variant, 99),
        "p99_ratio": _ratio(_percentiles(variant, 99), _percentiles(off, 99)),
        "failed": variant.failed,
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(mine / yours for mine, yours in zip(ours, theirs, strict=True))


def _over_rounds(variant: Variant, percent: int) -> float:
    return statistics.median(_percentiles(variant, percent))


def _percentiles(variant: Variant, percent: int) -> list[float]:
    return [
        statistics.quantiles(of_round, n=100, method="inclusive")[percent - 1]
        for of_round in variant.latencies_ms
    ]


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the rows as a Markdown table."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        cells = [
            f"{row[name]:.3g}" if isinstance(row[name], float) else row[name] for name in names
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def world_of(bundles: Path | None, directory: Path, recipe: Recipe = DEFAULT) -> World:
    """Return the bundle that was named, or one of a synthetic world with a model of `size`."""
    if bundles is not None:
        return open_world(bundles)
    return train_world(directory, is_small=False, console=Console(stderr=True), recipe=recipe)


def main() -> None:
    """Measure, print a table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, help="without: a synthetic world is trained")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, collectors() as addresses, ExitStack() as running:
        directory = Path(made)
        world = world_of(arguments.bundles, directory)
        compared = variants(*addresses)
        for number, variant in enumerate(compared):
            running.enter_context(running_mesh(variant, world, directory / str(number)))
        compare(compared, world, directory, Plan(arguments.rounds, arguments.requests))
    rows = [summary(variant, compared[0]) for variant in compared]
    print(table(rows))
    if arguments.json:
        found = {"machine": machine_facts(), "rows": rows}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
