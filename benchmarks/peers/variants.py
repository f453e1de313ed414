"""What is compared: the mesh and its peers, each as processes over one bundle."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recmesh.gateway.v1 import gateway_pb2

from benchmarks.load.process import Target
from benchmarks.peers.models import ModelKind
from benchmarks.peers.parts import SOURCES
from benchmarks.peers.slates import Slate, grpc_request, json_request, read_grpc, read_json
from meshctl.child_process import ProcessSpec
from meshctl.drills.world import World
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.prepare import prepare_dynamodb
from meshctl.standard_mesh import STANDARD_PARTS, MeshSettings, standard_specs

MESH = "mesh"
MONOLITH = "monolith"
MONOLITH_WITH_KERNEL = "monolith with the kernel"
NAIVE_MESH = "naive mesh"

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name
GRPC_PATH = f"/{SERVICE}/Recommend"
HTTP_PATH = "/recommend"
SAMPLED = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}
TRENDING_ENV = {
    # The embedded DynamoDB stands in for machines elsewhere, and answers a query in up to 50 ms
    # of a core of this one: it is read before anything is measured, and not again.
    "RECMESH_TRENDING_REFRESH_S": "3600",
    "RECMESH_TRENDING_MAX_AGE_S": "86400",
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve, and how it is spoken to."""

    name: str
    protocol: Literal["grpc", "http"]
    specs: Callable[[World, Path, Mapping[str, str]], Sequence[ProcessSpec]]
    """Made of the world, a state directory, and the settings of those that trace."""

    def request(self, user_id: str) -> bytes:
        """Return what asks for a page for this user."""
        return grpc_request(user_id) if self.protocol == "grpc" else json_request(user_id)

    def read(self, body: bytes) -> Slate:
        """Return the slate of an answer."""
        return read_grpc(body) if self.protocol == "grpc" else read_json(body)


@contextmanager
def running(
    variant: Variant,
    world: World,
    directory: Path,
    *,
    user_ids: Sequence[str],
    trace_env: Mapping[str, str],
) -> Iterator[Target]:
    """Run a variant's processes until the block ends. Raises MeshError."""
    directory.mkdir()
    specs = variant.specs(world, directory, trace_env)
    facts = MeshFacts(bundles=str(world.bundles), clock="bundle")
    with LocalMesh(specs, state_directory=directory, facts=facts, say=print) as mesh:
        mesh.start()
        is_grpc = variant.protocol == "grpc"
        fronts = ("gateway",) if is_grpc else tuple(spec.name for spec in specs)
        yield Target(
            protocol=variant.protocol,
            addresses=tuple(mesh.address(front) for front in fronts),
            path=GRPC_PATH if is_grpc else HTTP_PATH,
            bodies=tuple(variant.request(user_id) for user_id in user_ids),
            pids={process.name: process.identity.pid for process in mesh.processes()},
        )


def mesh_specs(
    world: World, directory: Path, trace_env: Mapping[str, str]
) -> Sequence[ProcessSpec]:
    """Return the mesh as `meshctl up` starts it, with a worker a part."""
    names = [f"candidates-{part}" if part in SOURCES else part for part in STANDARD_PARTS]
    extra_env = {name: dict(trace_env) for name in names}
    extra_env["candidates-trending"] |= TRENDING_ENV
    settings = MeshSettings(
        bundles=world.bundles,
        bundle_version=world.version,
        prepare_dynamodb=lambda endpoint: prepare_dynamodb(
            endpoint, bundles=world.bundles, version=world.version
        ),
        extra_env=extra_env,
        port=0,
        control_file=directory / "control.json",
        state_directory=directory,
    )
    return standard_specs(settings)


def monolith_specs(model: ModelKind, world: World) -> Sequence[ProcessSpec]:
    """Return a process a core."""
    env = {**_common(world), "RECMESH_MODEL": model}
    return [
        ProcessSpec(
            name=f"worker-{number + 1}",
            argv=("benchmarks.peers.monolith",),
            env=env,
            protocol="http",
        )
        for number in range(len(os.sched_getaffinity(0)))
    ]


def naive_mesh_specs(
    world: World, _directory: Path, trace_env: Mapping[str, str]
) -> Sequence[ProcessSpec]:
    """Return a process a part."""
    env = {**_common(world), **trace_env}
    sources = [
        ProcessSpec(
            name=f"candidates-{name}",
            argv=("benchmarks.peers.naive_mesh.source",),
            env={**env, "RECMESH_SOURCE": name},
        )
        for name in SOURCES
    ]
    ranker = ProcessSpec(name="ranker", argv=("benchmarks.peers.naive_mesh.ranker",), env=env)
    gateway = ProcessSpec(
        name="gateway",
        argv=("benchmarks.peers.naive_mesh.gateway",),
        env={
            **env,
            "RECMESH_SOURCES": ",".join(f"{name}={{candidates-{name}}}" for name in SOURCES),
            "RECMESH_RANKER": "{ranker}",
        },
        waits_for=(*(spec.name for spec in sources), ranker.name),
    )
    return (*sources, ranker, gateway)


def _common(world: World) -> dict[str, str]:
    return {
        "RECMESH_BUNDLES": str(world.bundles.absolute()),
        "RECMESH_BUNDLE_VERSION": world.version,
        **ONE_THREAD,
    }


VARIANTS = (
    Variant(MESH, "grpc", mesh_specs),
    Variant(MONOLITH, "http", lambda world, _directory, _env: monolith_specs("stock", world)),
    Variant(NAIVE_MESH, "grpc", naive_mesh_specs),
    Variant(
        MONOLITH_WITH_KERNEL,
        "http",
        lambda world, _directory, _env: monolith_specs("kernel", world),
    ),
)
"""The first gives the slates that all must give."""
