"""A mesh over one bundle: how long its processes start, what they hold, what a request costs."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, perf_counter_ns

import grpc
import numpy as np
from numpy.typing import NDArray
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc
from recmesh.common.v1 import common_pb2
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from benchmarks.growth.memory import Memory, memory_of
from benchmarks.machine import cpu_s
from meshctl.child_process import ProcessSpec
from meshctl.drills.child import running_load
from meshctl.drills.load import LoadPlan
from meshctl.drills.records import SHED
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.mesh_member import ProcessState
from meshctl.prepare import prepare_dynamodb
from meshctl.standard_mesh import LEAVES, SOURCES, MeshSettings, standard_specs
from meshkit.bundles import Bundle
from signals.bundle import Histories, ItemTexts
from signals.limits import MAX_HISTORY_PLAYS

WORKERS = 2
"""Of every leaf: what the second holds alone is what a further one costs."""
START_DEADLINE_S = 600.0
"""The first process verifies the bundle for all: half a minute a gigabyte."""
STOP_BUDGET_S = 60.0
ROUND_LIMIT_S = 180.0
SLATES = 500
SEEDS = 20
TOUCHING_REQUESTS = 2_000
"""Asked before memory is read: a page is resident once somebody has read it."""
TOUCHING_CALLERS = 4
COST_REQUESTS = 300
CALLS = 60
"""Of a leaf, for each number of candidates."""
CALL_TIMEOUT_S = 5.0
WARM_CALLS = 5
NS_PER_MS = 1e6
MS_PER_S = 1e3


@dataclass(frozen=True, slots=True)
class Subject:
    """A bundle to serve, and what its users ask."""

    store: Path
    bundle: Bundle
    slates: tuple[tuple[str, ...], ...]
    """The newest plays of users, as ids, newest last."""
    histories: tuple[NDArray[np.uint32], ...]
    """The same users' plays, newest first, as many as a leaf is told."""

    @classmethod
    def of(cls, store: Path, bundle: Bundle) -> "Subject":
        """Return the subject of a bundle, with users spread over all of its."""
        histories, texts = Histories.open(bundle.path), ItemTexts.open(bundle.path)
        n_users = len(histories.user_keys)
        places = np.linspace(0, n_users - 1, min(SLATES, n_users)).astype(np.int64)
        plays = [histories.of(key)[0] for key in histories.user_keys[places].tolist()]
        return cls(
            store,
            bundle,
            tuple(tuple(texts.item_id(row) for row in rows[-SEEDS:].tolist()) for rows in plays),
            tuple(rows[::-1][:MAX_HISTORY_PLAYS] for rows in plays),
        )


@dataclass(slots=True)
class Starts:
    """When each process of a mesh began and served."""

    began_s: dict[str, float] = field(default_factory=dict)
    served_s: dict[str, float] = field(default_factory=dict)

    def show(self, states: Sequence[ProcessState]) -> None:
        """Note what is new."""
        for state in states:
            if state.stage != "waiting":
                self.began_s.setdefault(state.name, monotonic())
            if state.stage == "SERVING":
                self.served_s.setdefault(state.name, monotonic())

    def took_s(self) -> dict[str, float]:
        """Return the seconds that each process needed."""
        return {name: at_s - self.began_s[name] for name, at_s in self.served_s.items()}


@dataclass(frozen=True, slots=True)
class Running:
    """A mesh that serves."""

    subject: Subject
    mesh: LocalMesh
    start_s: Mapping[str, float]
    """Seconds from a process's start to SERVING, alone on the machine."""
    directory: Path

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {process.name: process.pid for process in self.mesh.processes()}


@dataclass(frozen=True, slots=True)
class Answered:
    """What so many callers got."""

    callers: int
    requests: int
    p50_ms: float
    p99_ms: float
    per_s: float
    refused: int
    failed: int
    """Neither answered nor refused: late, mostly."""
    mean_quality: float
    """Share of the candidates that the gateway asked for, 1 without load."""
    cpu_ms: Mapping[str, float]
    """A request, by kind of process."""
    gateway: Memory


@dataclass(frozen=True, slots=True)
class LeafCost:
    """What one call of a leaf costs."""

    candidates: int
    p50_ms: float
    cpu_ms: float


@contextmanager
def running_mesh(subject: Subject, directory: Path) -> Iterator[Running]:
    """Run a mesh with `WORKERS` workers of each leaf, started one process after the other."""
    directory.mkdir(parents=True)
    version = subject.bundle.version
    settings = MeshSettings(
        bundles=subject.store,
        bundle_version=version,
        prepare_dynamodb=lambda endpoint: prepare_dynamodb(
            endpoint, bundles=subject.store, version=version
        ),
        workers=dict.fromkeys(LEAVES, WORKERS),
        port=0,
        control_file=directory / "control.json",
        state_directory=directory,
    )
    starts = Starts()
    mesh = LocalMesh(
        in_single_file(standard_specs(settings)),
        state_directory=directory,
        facts=MeshFacts(bundles=str(subject.store), clock=settings.clock),
        say=print,
        start_deadline_s=START_DEADLINE_S,
        terminate_budget_s=STOP_BUDGET_S,
    )
    with mesh:
        mesh.start(show=starts.show)
        starts.show(mesh.states())
        yield Running(subject, mesh, starts.took_s(), directory)


def in_single_file(specs: Sequence[ProcessSpec]) -> tuple[ProcessSpec, ...]:
    """Return the specs so that each process waits for the one before it."""
    names = [spec.name for spec in specs]
    befores = [(), *((name,) for name in names[:-1])]
    return tuple(
        replace(spec, waits_for=tuple(dict.fromkeys([*spec.waits_for, *before])))
        for spec, before in zip(specs, befores, strict=True)
    )


def ask(running: Running, *, callers: int, requests: int) -> Answered:
    """Return what `callers` get, each asking again once it is answered."""
    pids = running.pids()
    plan = LoadPlan(
        targets=(running.mesh.address("gateway"),),
        slates=running.subject.slates,
        records=str(running.directory / "records.jsonl"),
        callers=callers,
        requests=requests,
    )
    with running_load(plan) as load:
        before_s = {name: cpu_s([pid]) for name, pid in pids.items()}
        began_s = monotonic()
        records = load.wait(ROUND_LIMIT_S)
        took_s = monotonic() - began_s
        spent_s = {name: cpu_s([pid]) - before_s[name] for name, pid in pids.items()}
    answered = [record for record in records if record.is_answered]
    latencies = [record.latency_s * MS_PER_S for record in answered]
    outcomes = Counter(record.outcome for record in records)
    return Answered(
        callers=callers,
        requests=len(records),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        per_s=len(answered) / took_s,
        refused=outcomes[SHED],
        failed=len(records) - len(answered) - outcomes[SHED],
        mean_quality=statistics.fmean(record.quality for record in answered),
        cpu_ms={
            kind: sum(s for name, s in spent_s.items() if kind_of(name) == kind)
            / len(records)
            * MS_PER_S
            for kind in dict.fromkeys(map(kind_of, pids))
        },
        gateway=memory_of(pids["gateway"]),
    )


def kind_of(process: str) -> str:
    """Return the name of a process without its number."""
    return re.sub(r"-\d+$", "", process)


def memories(running: Running) -> dict[str, Memory]:
    """Return what each process holds, after requests that touch what requests touch."""
    ask(running, callers=TOUCHING_CALLERS, requests=TOUCHING_REQUESTS)
    return {name: memory_of(pid) for name, pid in running.pids().items()}


def second_worker_shares(held: Mapping[str, Memory]) -> dict[str, float]:
    """Return for each leaf the USS of its second worker over the RSS of its first."""
    names = [f"candidates-{leaf}" if leaf in SOURCES else leaf for leaf in LEAVES]
    return {name: held[f"{name}-2"].uss / held[f"{name}-1"].rss for name in names}


def ranker_costs(running: Running, counts: Sequence[int]) -> list[LeafCost]:
    """Return what ranking so many candidates costs, each count once."""
    n_items = int(running.subject.bundle.manifest.facts["items"])
    random = np.random.default_rng(1)

    def request(history: NDArray[np.uint32], count: int) -> ranker_pb2.RankRequest:
        ranks = list(range(1, count + 1))
        scores = [1.0 / rank for rank in ranks]
        return ranker_pb2.RankRequest(
            bundle_version=running.subject.bundle.version,
            rows=random.choice(n_items, count, replace=False).tolist(),
            sources=[
                ranker_pb2.SourceColumn(source=source, ranks=ranks, scores=scores)
                for source in SOURCES
            ],
            history=_history(history),
        )

    def call(channel: grpc.Channel) -> Callable[..., object]:
        return ranker_pb2_grpc.RankerServiceStub(channel).Rank

    return _leaf_costs(running, "ranker-1", call, request, counts)


def retrieval_costs(running: Running, limits: Sequence[int]) -> list[LeafCost]:
    """Return what a list of so many candidates costs `ann`."""

    def request(history: NDArray[np.uint32], limit: int) -> candidates_pb2.GenerateRequest:
        return candidates_pb2.GenerateRequest(
            bundle_version=running.subject.bundle.version, limit=limit, history=_history(history)
        )

    def call(channel: grpc.Channel) -> Callable[..., object]:
        return candidates_pb2_grpc.CandidateServiceStub(channel).Generate

    return _leaf_costs(running, "candidates-ann-1", call, request, limits)


def _history(rows: NDArray[np.uint32]) -> common_pb2.History:
    return common_pb2.History(rows=rows.tolist(), ages_s=[3600.0] * len(rows))


def _leaf_costs(
    running: Running,
    process: str,
    method: Callable[[grpc.Channel], Callable[..., object]],
    request: Callable[[NDArray[np.uint32], int], object],
    counts: Sequence[int],
) -> list[LeafCost]:
    pid = running.pids()[process]
    with grpc.insecure_channel(running.mesh.address(process)) as channel:
        call = method(channel)
        return [_leaf_cost(call, running.subject, request, count, pid) for count in counts]


def _leaf_cost(
    call: Callable[..., object],
    subject: Subject,
    request: Callable[[NDArray[np.uint32], int], object],
    count: int,
    pid: int,
) -> LeafCost:
    requests = [request(history, count) for history in subject.histories[: CALLS + WARM_CALLS]]
    for each in requests[:WARM_CALLS]:
        call(each, timeout=CALL_TIMEOUT_S)
    took_ms = []
    before_s = cpu_s([pid])
    for each in requests[WARM_CALLS:]:
        began_ns = perf_counter_ns()
        call(each, timeout=CALL_TIMEOUT_S)
        took_ms.append((perf_counter_ns() - began_ns) / NS_PER_MS)
    spent_s = cpu_s([pid]) - before_s
    return LeafCost(count, statistics.median(took_ms), spent_s / len(took_ms) * MS_PER_S)
