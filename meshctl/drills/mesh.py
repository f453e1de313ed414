"""A local mesh for drills: started from a bundle, with fault proxies, and watched meanwhile."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from meshctl.child_process import ProcessSpec
from meshctl.drills.child import DrillError
from meshctl.drills.world import World
from meshctl.faults import Fault, FaultControl, FaultLevel
from meshctl.health import health_of
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.prepare import prepare_dynamodb
from meshctl.process_identity import ProcessIdentity
from meshctl.run_file import GATEWAY, RunningProcess
from meshctl.standard_mesh import (
    DYNAMODB_ENDPOINT,
    LEAVES,
    RANKER,
    SOURCES,
    History,
    MeshSettings,
    standard_specs,
)
from meshctl.traces.places import traces_of

DYNAMODB = "dynamodb"
FAULT_LEVEL = "RECMESH_FAULT_LEVEL"
POLL_S = 0.02
_SAMPLING = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.05"}
"""All traces of a full load would be a load of their own."""
SERVING_LIMIT_S = 60.0
"""From a process's end to its SERVING again; a start takes seconds, on busy cores more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """Which mesh a drill needs; drills with equal plans share one."""

    workers: Mapping[str, int] = field(default_factory=dict)
    leaf_faults: FaultLevel | None = None
    """Level of the proxies before every leaf; None: no proxies."""
    has_dynamodb_faults: bool = False
    history: History = "bundle"
    """Where the gateways read users' histories."""
    extra_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Settings of processes, see `MeshSettings.extra_env`."""


@dataclass(frozen=True, slots=True)
class Served:
    """When a process came back, on the monotonic clock."""

    not_before_s: float
    """It did not serve yet."""
    at_s: float
    """It served."""


@dataclass(frozen=True, slots=True)
class LeafCalls:
    """Calls that came to the workers of a leaf, every attempt counted, and those hit by a fault."""

    made: int
    hit: int

    def __sub__(self, before: "LeafCalls") -> "LeafCalls":
        return LeafCalls(self.made - before.made, self.hit - before.hit)


class DrillMesh:
    """A mesh that serves, and handles on its parts."""

    def __init__(self, mesh: LocalMesh, directory: Path) -> None:
        self._mesh = mesh
        self._directory = directory
        self._controls: dict[str, FaultControl] = {}

    @property
    def traces(self) -> Path:
        """Where the processes write their traces."""
        return traces_of(self._directory)

    def process(self, name: str) -> RunningProcess:
        """Return a process, the present one where it was restarted. Raises DrillError."""
        for process in self._mesh.processes():
            if process.name == name:
                return process
        raise DrillError(f"the mesh has no process {name!r}")

    def pids(self) -> Mapping[str, int]:
        """Return the pid of every process that runs."""
        return {
            process.name: process.identity.pid
            for process in self._mesh.processes()
            if process.identity.is_alive()
        }

    def service_pids(self) -> Mapping[str, int]:
        """Return the pid of every gateway and leaf that runs."""
        names = {*self.workers_of(GATEWAY), *self.leaves()}
        return {name: pid for name, pid in self.pids().items() if name in names}

    def gateways(self) -> tuple[str, ...]:
        """Return the addresses of all gateways."""
        return tuple(self.process(name).address for name in self.workers_of(GATEWAY))

    def workers_of(self, part: str) -> tuple[str, ...]:
        """Return the names of the processes of a source, of the ranker or of the gateway."""
        kind = f"candidates-{part}" if part in SOURCES else part
        names = (process.name for process in self._mesh.processes())
        found = tuple(name for name in names if re.fullmatch(rf"{kind}(-\d+)?", name))
        if not found:
            raise DrillError(f"the mesh has no {part}")
        return found

    def faults_of(self, name: str) -> FaultControl:
        """Return what drives the proxy before a process."""
        # One driver a proxy: another would not know the fault in force, and end it.
        if name not in self._controls:
            self._controls[name] = FaultControl(self._directory / "faults" / f"{name}.json")
        return self._controls[name]

    def leaves(self) -> tuple[str, ...]:
        """Return the names of all processes of sources and rankers."""
        return tuple(name for leaf in LEAVES for name in self.workers_of(leaf))

    def calls_of(self, leaf: str) -> LeafCalls:
        """Return what the proxies before a leaf have seen so far."""
        counts = [self.faults_of(name).fresh_counts() for name in self.workers_of(leaf)]
        calls = sum(each.mesh_calls for each in counts)
        return LeafCalls(calls, sum(sum(each.faults.values()) for each in counts))

    @contextmanager
    def all_faulty(self, leaf: str, fault: Fault) -> Iterator[None]:
        """Keep a fault in force before every worker of a leaf while the block runs."""
        with ExitStack() as stack:
            for name in self.workers_of(leaf):
                stack.enter_context(self.faults_of(name).injected(fault))
            yield

    def await_restart(self, name: str, old: ProcessIdentity) -> Served:
        """Wait until another process than `old` serves under a name. Raises DrillError."""
        return self._await(name, lambda: self.process(name).identity != old)

    def await_serving(self, name: str) -> Served:
        """Wait until a process says that it is SERVING. Raises DrillError."""
        return self._await(name, lambda: True)

    def _await(self, name: str, is_meant: Callable[[], bool]) -> Served:
        gives_up_s = time.monotonic() + SERVING_LIMIT_S
        before_s = time.monotonic()
        while (now_s := time.monotonic()) < gives_up_s:
            process = self.process(name)
            if is_meant() and _is_serving(process):
                return Served(before_s, time.monotonic())
            before_s = now_s
            time.sleep(POLL_S)
        raise DrillError(f"{name} was not serving again after {SERVING_LIMIT_S:.0f} s")


def _is_serving(process: RunningProcess) -> bool:
    return health_of(process.address, protocol=process.protocol, timeout_s=0.5) == "SERVING"


@contextmanager
def drill_mesh(
    plan: MeshPlan, world: World, directory: Path, say: Callable[[str], None]
) -> Iterator[DrillMesh]:
    """Run a mesh while the block does. Raises MeshError when it does not start."""
    settings = _settings(plan, world, directory)
    specs = standard_specs(settings)
    if plan.has_dynamodb_faults:
        specs = with_dynamodb_proxy(specs, directory)
    facts = MeshFacts(bundles=str(world.bundles), clock=settings.clock)
    mesh = LocalMesh(specs, state_directory=directory, facts=facts, say=say)
    supervisor = _Supervisor(mesh)
    supervisor.start()
    try:
        yield DrillMesh(mesh, directory)
    finally:
        supervisor.stop()


def _settings(plan: MeshPlan, world: World, directory: Path) -> MeshSettings:
    return MeshSettings(
        bundles=world.bundles,
        bundle_version=world.version,
        prepare_dynamodb=partial(
            prepare_dynamodb,
            bundles=world.bundles,
            version=world.version,
            with_histories=plan.history == "dynamodb",
        ),
        history=plan.history,
        workers=plan.workers,
        fault_proxies=plan.leaf_faults is not None,
        extra_env={GATEWAY: _SAMPLING, **plan.extra_env, **_levels(plan)},
        trace_directory=traces_of(directory),
        port=0,
        control_file=directory / "control.json",
        state_directory=directory,
    )


def _levels(plan: MeshPlan) -> dict[str, dict[str, str]]:
    if plan.leaf_faults is None:
        return {}
    leaves = [*(f"candidates-{source}" for source in SOURCES), RANKER]
    return {f"fault-{leaf}": {FAULT_LEVEL: plan.leaf_faults.value} for leaf in leaves}


def with_dynamodb_proxy(specs: Sequence[ProcessSpec], directory: Path) -> tuple[ProcessSpec, ...]:
    """Return the processes with a fault proxy between trending and DynamoDB."""
    proxy = ProcessSpec(
        name=f"fault-{DYNAMODB}",
        argv=("meshctl.faults",),
        env={
            "RECMESH_LISTEN": "127.0.0.1:0",
            "RECMESH_UPSTREAM": f"{{{DYNAMODB}}}",
            "RECMESH_FAULT_FILE": str((directory / "faults" / f"{DYNAMODB}.json").absolute()),
            FAULT_LEVEL: FaultLevel.DYNAMODB.value,
        },
        waits_for=(DYNAMODB,),
        protocol="http",
    )
    return (proxy, *(_behind(proxy.name, spec) for spec in specs))


def _behind(proxy: str, spec: ProcessSpec) -> ProcessSpec:
    if DYNAMODB_ENDPOINT not in spec.env:
        return spec
    env = {**spec.env, DYNAMODB_ENDPOINT: f"http://{{{proxy}}}"}
    return replace(spec, env=env, waits_for=(proxy,))


class _Supervisor:
    """The thread that starts and watches a mesh; its children live as long as it does."""

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh
        self._is_stopping = threading.Event()
        self._has_started = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mesh")

    def start(self) -> None:
        """Return when everything serves; raises what kept it from that."""
        self._thread.start()
        self._has_started.wait()
        if self._fault is not None:
            self._thread.join()
            raise self._fault

    def stop(self) -> None:
        """Stop the mesh; raises what kept it from being watched to the end."""
        self._is_stopping.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            with self._mesh:
                self._mesh.start(is_stopping=self._is_stopping.is_set)
                self._has_started.set()
                self._mesh.wait(is_stopping=self._is_stopping.is_set)
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that started us
            self._fault = exc
        finally:
            self._has_started.set()


def pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Keep every thread of some processes to some cores; threads made later inherit it."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                os.sched_setaffinity(int(task.name), cores)
            except ProcessLookupError:  # the thread has ended
                continue
