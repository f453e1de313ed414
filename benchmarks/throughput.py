"""The mesh against its peers, in one run: `make bench`, or `python -m benchmarks.throughput`.

Over one bundle, whose model has 300 trees of 31 leaves, and for the same users: the mesh as
`meshctl up` starts it; a monolith of stock parts, a process a core; a gRPC mesh written naively;
and the monolith with the mesh's own kernels, which shows what the calls between processes cost.
Before anything is timed, all must give the same slates; the few users for whom numpy and
compiled features round apart are left out. They stand side by side and are asked in
turn, forth and back (ABBA), by 1, 8 and 32 callers, each asking again once it is answered.

Both meshes trace 1 % of the requests and send the spans to a collector; the monoliths trace
nothing. The mesh is asked on the surface "batch", whose 5 s it does not need to degrade or narrow
for: its peers take their time as well. Only full answers with the slate that the check found
count as throughput; all others are shown. Latencies are the caller's, from its first byte sent to
its last byte read, with the load's own work on the same cores as what it loads.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import duckdb
import lightgbm as lgb
from rich.console import Console
from rich.table import Table

from benchmarks.load.process import Measured, Target, ask_once, measure
from benchmarks.machine import cpu_s, machine_facts
from benchmarks.peers.models import open_ranking
from benchmarks.peers.monolith.recommend import asked
from benchmarks.peers.parts import CANDIDATES_PER_SOURCE, SOURCES, Desk, open_source, query_of
from benchmarks.peers.slates import (
    PAGE_SIZE,
    Slate,
    SlatesDifferError,
    check_same_slates,
    difference,
)
from benchmarks.peers.variants import (
    MESH,
    MONOLITH,
    NAIVE_MESH,
    SAMPLED,
    VARIANTS,
    Variant,
    running,
)
from benchmarks.tracing import collectors, world_of
from meshctl.drills.world import World
from meshkit.bundles import open_store
from pipeline.log_directory import EVENTS_FILE
from pipeline.recipe import ForestSettings, Recipe
from services.candidates.domain.values import CandidateSource
from services.gateway.domain.values import Ask, Rows
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from signals.bundle import Histories
from signals.keys import item_keys

CALLERS = (1, 8, 32)
MANY, SOME = 32, 8
USERS = 200
MOST_DIFFERING = 0.1
"""Of the users; they are not asked for any more."""
CHECK_CALLERS = 2
"""Enough for every process of a monolith to be checked."""
CHECK_LIMIT_S = 30.0
"""The mesh reads what trends for somebody's genres only once somebody has asked."""
CHECK_PAUSE_S = 1.0
MODEL = Recipe(forest=ForestSettings(leaves=31, least_trees=300, most_trees=300))
"""Of the world that is trained here: what training grows of so small a log by itself, at most 200
trees of 15 leaves, is less than what large logs ask for."""
RAMP_S = 1.0
IDLE_S = 2.0
STOCK_PARTS = ("annoy", "fastapi", "uvicorn", "uvloop", "opentelemetry-instrumentation-grpc")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seconds: float
    rounds: int
    callers: Sequence[int] = CALLERS
    ramp_s: float = RAMP_S


@dataclass(frozen=True, slots=True)
class Round:
    """What one variant did in one round."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_s: float
    """Full answers with the right slate."""
    answers: int
    errors: int
    degraded: int
    """Answers with less than all sources, the model's ranking and the full counts."""
    different: int
    """Full answers with another slate than the check's."""
    cpu_ms: Mapping[str, float]
    """A request, by process; `load` is the load's own."""


@dataclass(frozen=True, slots=True)
class Served:
    """A variant that runs."""

    variant: Variant
    target: Target

    def asking(self, places: Sequence[int]) -> "Served":
        """Return the same, asked only for the users at `places`."""
        bodies = tuple(self.target.bodies[place] for place in places)
        return replace(self, target=replace(self.target, bodies=bodies))


@dataclass(frozen=True, slots=True)
class TargetRatio:
    """A ratio that the project has set itself."""

    name: str
    value: float
    target: float
    is_least: bool
    """The target is the least that meets it, else the most."""

    @property
    def is_met(self) -> bool:
        """The value is on the target's good side."""
        return self.value >= self.target if self.is_least else self.value <= self.target


Rounds = Mapping[tuple[str, int], Sequence[Round]]
"""By variant and number of callers."""


def known_users(log: Path, world: World, count: int = USERS) -> tuple[str, ...]:
    """Return users of the log whom the bundle knows, the same every time.

    Raises SystemExit when the log is not there.
    """
    events = log / EVENTS_FILE
    if not events.exists():
        raise SystemExit(f"{events} is not there; name the log of the bundle with --log")
    query = "SELECT DISTINCT user_id FROM read_parquet(?) ORDER BY user_id"
    ids = [str(row[0]) for row in duckdb.execute(query, [str(events)]).fetchall()]
    bundle = open_store(world.bundles).open(world.version)
    known = set(Histories.open(bundle.path).user_keys.tolist())
    stored = [one for one, key in zip(ids, item_keys(ids).tolist(), strict=True) if key in known]
    draw = random.Random(1)  # noqa: S311 - the same users every time
    return tuple(draw.sample(stored, min(count, len(stored))))


def check(
    served: Sequence[Served], user_ids: Sequence[str], directory: Path
) -> tuple[Slate | None, ...]:
    """Return the slates of all users, None of a user for whom variants round apart.

    Raises SlatesDifferError when those are many.

    The first is asked again while it differs from what the others said: it is the mesh.
    """
    asks: dict[str, Callable[[], Sequence[Slate | None]]] = {
        one.variant.name: partial(_slates, one, directory) for one in served
    }
    for peer in served[1:]:
        asks[peer.variant.name] = cache(asks[peer.variant.name])
    gives_up_at_s = time.monotonic() + CHECK_LIMIT_S
    while True:
        try:
            return check_same_slates(asks, user_ids, MOST_DIFFERING)
        except SlatesDifferError:
            if time.monotonic() > gives_up_at_s:
                raise
            time.sleep(CHECK_PAUSE_S)


def _slates(served: Served, directory: Path) -> list[Slate | None]:
    """Return the slate of every user, None where there was no answer."""
    result = ask_once(served.target, directory / "check.jsonl", callers=CHECK_CALLERS)
    slates: list[Slate | None] = [None] * len(served.target.bodies)
    for ended in result.ended:
        if ended.body is not None:
            slates[ended.request] = served.variant.read(ended.body)
    return slates


def idle_ms_per_s(target: Target) -> float:
    """Return the processor time that a variant takes when nobody asks, in ms a second."""
    pids = tuple(target.pids.values())
    before_s = cpu_s(pids)
    time.sleep(IDLE_S)
    return (cpu_s(pids) - before_s) / IDLE_S * 1e3


def compare(
    served: Sequence[Served],
    expected: Sequence[Slate],
    plan: Plan,
    directory: Path,
    say: Callable[[str], None],
) -> dict[tuple[str, int], list[Round]]:
    """Measure every variant in turn, forth and back, at every number of callers."""
    found: dict[tuple[str, int], list[Round]] = {
        (one.variant.name, callers): [] for one in served for callers in plan.callers
    }
    for callers in plan.callers:
        for number in range(plan.rounds):
            for one in served if number % 2 == 0 else reversed(served):
                measured = measure(
                    one.target,
                    directory / "load.jsonl",
                    callers=callers,
                    ramp_s=plan.ramp_s,
                    seconds=plan.seconds,
                )
                found[one.variant.name, callers].append(judge(measured, one.variant, expected))
            say(f"{callers} callers, round {number + 1} of {plan.rounds}")
    return found


def judge(measured: Measured, variant: Variant, expected: Sequence[Slate]) -> Round:
    """Return what a round's answers were worth and what they cost."""
    ended = measured.result.ended
    answered = [(one.request, variant.read(one.body)) for one in ended if one.body is not None]
    full = [(request, slate) for request, slate in answered if slate.is_full]
    different = sum(bool(difference(expected[request], slate)) for request, slate in full)
    spent = {**measured.cpu_s, "load": measured.result.cpu_s}
    p50, p95, p99 = percentiles([one.latency_s * 1e3 for one in ended])
    return Round(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        per_s=(len(full) - different) / measured.result.elapsed_s,
        answers=len(ended),
        errors=len(ended) - len(answered),
        degraded=len(answered) - len(full),
        different=different,
        cpu_ms={name: seconds / max(1, len(ended)) * 1e3 for name, seconds in spent.items()},
    )


def percentiles(latencies_ms: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile; infinite where nothing ended."""
    if len(latencies_ms) < 2:  # noqa: PLR2004 - what `quantiles` needs
        only = latencies_ms[0] if latencies_ms else float("inf")
        return only, only, only
    cuts = statistics.quantiles(latencies_ms, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def summary(name: str, callers: int, rounds: Sequence[Round]) -> dict[str, object]:
    """Return medians over the rounds, and sums of what went wrong."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    by_process = {
        process: statistics.median(each.cpu_ms[process] for each in rounds)
        for process in rounds[0].cpu_ms
    }
    load_ms = by_process.pop("load")
    return {
        "variant": name,
        "callers": callers,
        "p50_ms": median(lambda each: each.p50_ms),
        "p95_ms": median(lambda each: each.p95_ms),
        "p99_ms": median(lambda each: each.p99_ms),
        "per_s": median(lambda each: each.per_s),
        "cpu_ms": sum(by_process.values()),
        "cpu_ms_by_process": by_process,
        "load_cpu_ms": load_ms,
        "answers": sum(each.answers for each in rounds),
        "errors": sum(each.errors for each in rounds),
        "degraded": sum(each.degraded for each in rounds),
        "different": sum(each.different for each in rounds),
    }


def target_ratios(found: Rounds) -> list[TargetRatio]:
    """Return the ratios that have a target, medians over the rounds."""

    def ratio(other: str, callers: int, value: Callable[[Round], float]) -> float:
        pairs = zip(found[MESH, callers], found[other, callers], strict=True)
        return statistics.median(value(ours) / (value(theirs) or 1e-9) for ours, theirs in pairs)

    def per_s(each: Round) -> float:
        return each.per_s

    return [
        TargetRatio(
            f"mesh throughput at {MANY} callers / {MONOLITH}'s with all cores",
            ratio(MONOLITH, MANY, per_s),
            target=2.0,
            is_least=True,
        ),
        TargetRatio(
            f"mesh throughput at {MANY} callers / {NAIVE_MESH}'s",
            ratio(NAIVE_MESH, MANY, per_s),
            target=4.0,
            is_least=True,
        ),
        TargetRatio(
            f"mesh p99 at {SOME} callers / {MONOLITH}'s",
            ratio(MONOLITH, SOME, lambda each: each.p99_ms),
            target=0.7,
            is_least=False,
        ),
    ]


def latency_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return what callers see."""
    table = Table(title=f"3 sources x {CANDIDATES_PER_SOURCE} candidates, page of {PAGE_SIZE}")
    columns = ("callers", "p50_ms", "p95_ms", "p99_ms", "per_s", "cpu_ms", "load_cpu_ms")
    counts = ("answers", "errors", "degraded", "different")
    table.add_column("variant")
    for name in (*columns, *counts):
        table.add_column(name, justify="right")
    for row in rows:
        cells = (_cell(row[name]) for name in (*columns, *counts))
        table.add_row(str(row["variant"]), *cells, end_section=row["variant"] == VARIANTS[-1].name)
    return table


def cpu_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return what a request costs each process."""
    table = Table(title="Processor time of a request, ms, by process")
    for name in ("variant", "callers", "by process"):
        table.add_column(name)
    for row in rows:
        spent = row["cpu_ms_by_process"]
        assert isinstance(spent, Mapping)  # noqa: S101 - `summary` made it
        cells = "  ".join(f"{name} {ms:.2f}" for name, ms in spent.items())
        table.add_row(str(row["variant"]), str(row["callers"]), cells)
    return table


def ratio_table(ratios: Sequence[TargetRatio]) -> Table:
    """Return the targets and whether they are met."""
    table = Table(title="Targets")
    for name in ("what", "value", "target", "met"):
        table.add_column(name)
    for one in ratios:
        sign = ">=" if one.is_least else "<="
        met = "yes" if one.is_met else "NO"
        table.add_row(one.name, f"{one.value:.2f}", f"{sign} {one.target:g}", met)
    return table


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def world_facts(world: World, user_ids: Sequence[str]) -> dict[str, object]:
    """Return how much work a request is here: catalogue, model, and candidates that it scores."""
    bundle = open_store(world.bundles).open(world.version)
    text = (bundle.path / MODEL_FILE).read_text()
    leaves = [int(line[11:]) for line in text.splitlines() if line.startswith("num_leaves=")]
    desk, sources = Desk.open(bundle), {name: open_source(name, bundle) for name in SOURCES}
    ranked = [len(ranked_of(Ask(one, PAGE_SIZE, "", (), ()), desk, sources)) for one in user_ids]
    return {
        "items": bundle.manifest.facts["items"],
        "users_asked_for": len(user_ids),
        "median_ranked": statistics.median(ranked),
        "trees": lgb.Booster(model_str=text).num_trees(),
        "most_leaves": max(leaves),
        "mesh_scores_with": open_ranking("kernel", bundle.path).model.scorer,
    }


def ranked_of(ask: Ask, desk: Desk, sources: Mapping[str, CandidateSource]) -> Rows:
    """Return the rows that the model scores for a request."""
    subject = desk.subject_of(ask)
    answers = [asked(name, source, query_of(subject)) for name, source in sources.items()]
    return desk.to_rank(answers, subject)[0].rows


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a run found."""

    machine: Mapping[str, object]
    """As it was before the run, its load above all."""
    plan: Plan
    rounds: Rounds
    idle_ms_per_s: Mapping[str, float]
    world: Mapping[str, object]


def run(world: World, log: Path, plan: Plan, directory: Path, say: Callable[[str], None]) -> Found:
    """Start all variants, check that they agree, and measure them."""
    user_ids = known_users(log, world)
    machine = {**machine_facts(), **{name: version(name) for name in STOCK_PARTS}}
    with collectors() as (collector, _silent), ExitStack() as running_now:
        trace_env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}", **SAMPLED}
        served = []
        for number, variant in enumerate(VARIANTS):
            say(f"starting {variant.name}")
            target = running_now.enter_context(
                running(
                    variant,
                    world,
                    directory / f"variant-{number}",
                    user_ids=user_ids,
                    trace_env=trace_env,
                )
            )
            served.append(Served(variant, target))
        say("checking that all give the same slates")
        slates = check(served, user_ids, directory)
        agreed = [place for place, slate in enumerate(slates) if slate is not None]
        expected = [slate for slate in slates if slate is not None]
        say(f"{len(agreed)} of {len(user_ids)} users get the same slates; those are asked for")
        served = [one.asking(agreed) for one in served]
        user_ids = tuple(user_ids[place] for place in agreed)
        idle = {one.variant.name: idle_ms_per_s(one.target) for one in served}
        rounds = compare(served, expected, plan, directory, say)
    return Found(machine, plan, rounds, idle, world_facts(world, user_ids))


def report(found: Found, console: Console) -> dict[str, object]:
    """Print the tables; return all of it for a file."""
    rows = [summary(name, callers, rounds) for (name, callers), rounds in found.rounds.items()]
    rows.sort(key=lambda row: CALLERS.index(int(str(row["callers"]))))
    ratios = target_ratios(found.rounds)
    idle = "  ".join(f"{name} {ms:.1f}" for name, ms in found.idle_ms_per_s.items())
    for table in (latency_table(rows), cpu_table(rows), ratio_table(ratios)):
        console.print(table)
    load = found.machine["load_1min"]
    console.print(f"Load of the machine before: {load}", highlight=False)
    console.print(f"Idle, ms of processor a second: {idle}", highlight=False)
    facts = ", ".join(f"{name} {value}" for name, value in found.world.items())
    console.print(f"World: {facts}", highlight=False)
    return {
        "machine": dict(found.machine),
        "plan": asdict(found.plan),
        "traced": SAMPLED,
        "world": dict(found.world),
        "idle_ms_per_s": dict(found.idle_ms_per_s),
        "rows": rows,
        "ratios": [{**asdict(one), "is_met": one.is_met} for one in ratios],
        "rounds": [
            {"variant": name, "callers": callers, **asdict(each)}
            for (name, callers), rounds in found.rounds.items()
            for each in rounds
        ],
    }


def main() -> None:
    """Measure, print tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, help="without: a synthetic world is trained")
    parser.add_argument("--log", type=Path, help="its log; by default `log` beside the bundles")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured in a round")
    parser.add_argument("--rounds", type=int, default=3, help="at each number of callers")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        world = world_of(arguments.bundles, directory, MODEL)
        log = arguments.log or world.bundles.parent / "log"
        found = run(world, log, Plan(arguments.seconds, arguments.rounds), directory, say)
    width = None if os.environ.get("COLUMNS") or sys.stdout.isatty() else 160
    written = report(found, Console(width=width))
    if arguments.json:
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
