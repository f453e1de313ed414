"""What the local mesh consists of: one process for each part, wired over loopback."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from meshctl.child_process import ProcessSpec
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.mesh_member import MeshError
from meshctl.ports import port_fault
from meshctl.run_file import GATEWAY, STATE_DIRECTORY
from meshctl.traces.places import remove_old_traces, trace_settings
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from meshkit.shelf import DEFAULT_HOLD_S
from pipeline.recipe import DEFAULT
from services.ranker.domain.features import SOURCES as KNOWN_SOURCES

Clock = Literal["bundle", "wall"]
History = Literal["bundle", "dynamodb"]

SOURCES = DEFAULT.sources
"""What a mesh asks where nobody says otherwise; `KNOWN_SOURCES` are all that there are."""
RANKER = "ranker"
LEAVES = (*SOURCES, RANKER)
STANDARD_PARTS = (*LEAVES, GATEWAY)
PARTS = (*KNOWN_SOURCES, RANKER, GATEWAY)
"""What `workers` counts."""
MAX_WORKERS = 64
DEFAULT_PORT = 8080
LEAF_NICENESS = 5
"""On a full core the gateway goes first: who refuses must not wait behind those who work."""
DEFAULT_BUNDLES = Path("bundles")
DEFAULT_CONTROL_FILE = STATE_DIRECTORY / "control.json"

DYNAMODB_ENDPOINT = "RECMESH_DYNAMODB_ENDPOINT"
TABLE_PREFIX = "RECMESH_TABLE_PREFIX"

_ANY_PORT = "127.0.0.1:0"
_EMBEDDED = "http://{dynamodb}"
# On busy cores it may take seconds for what takes it 50 ms otherwise. No request waits for it, so
# patience costs a thread that sleeps.
_EMBEDDED_TIMEOUTS = {
    "RECMESH_DYNAMODB_CONNECT_TIMEOUT_S": "2",
    "RECMESH_DYNAMODB_READ_TIMEOUT_S": "3",
}
_EMBEDDED_HISTORY = {
    "RECMESH_HISTORY_CONNECT_TIMEOUT_S": "2",
    "RECMESH_HISTORY_READ_TIMEOUT_S": "3",
    # A fifth of the budget is the limit: 25 ms of `home`, and a second of `batch`.
    "RECMESH_HISTORY_TIMEOUT_S": "1",
}
# boto3 refuses to start without credentials and a region; moto accepts any.
_EMBEDDED_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """One local mesh.

    `prepare_dynamodb` is called with the endpoint (`http://host:port`) of the
    embedded DynamoDB before anything reads from it; never for an endpoint of
    the caller's own. With `history` "dynamodb" the gateways read users' histories there,
    else in the bundle. Every process follows the store's pointer, or serves
    `bundle_version` alone. `sources` are those that the gateways ask. `workers`
    says how many processes a source, the ranker or the gateway has, 1 where it
    does not. A replaced version stays for `hold_s`. `port` is the first
    gateway's, 0 for any; others have any port.

    With `fault_proxies` the gateways reach every process of a leaf, such as
    ranker-2, through one named fault-ranker-2, which is told what to break by
    `faults/ranker-2.json` in the state directory. `extra_env` adds settings to
    processes by name, or by their name without its number. Services write their
    traces to `trace_directory`; None leaves that to the environment.
    """

    bundles: Path
    prepare_dynamodb: Callable[[str], None]
    sources: tuple[str, ...] = SOURCES
    bundle_version: str | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    hold_s: float = DEFAULT_HOLD_S
    port: int = DEFAULT_PORT
    clock: Clock = "bundle"
    history: History = "bundle"
    control_file: Path = DEFAULT_CONTROL_FILE
    state_directory: Path = STATE_DIRECTORY
    dynamodb_endpoint: str | None = None
    fault_proxies: bool = False
    trace_directory: Path | None = None
    extra_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def standard_mesh(settings: MeshSettings, *, say: Callable[[str], None]) -> LocalMesh:
    """Return the mesh, not started; raises MeshError when the gateway's port is taken.

    Of the traces of earlier runs the oldest are removed.
    """
    fault = port_fault(settings.port)
    if fault is not None:
        raise MeshError(f"{fault}; choose another with --port")
    if settings.trace_directory is not None:
        remove_old_traces(settings.trace_directory)
    facts = MeshFacts(
        bundles=str(settings.bundles),
        clock=settings.clock,
        control_file=str(settings.control_file),
    )
    return LocalMesh(
        standard_specs(settings), state_directory=settings.state_directory, facts=facts, say=say
    )


def standard_specs(settings: MeshSettings) -> tuple[ProcessSpec, ...]:
    """Return the processes of the mesh; DynamoDB only when no endpoint is given.

    Raises MeshError when `extra_env` names a process that there is not, or `workers` a source
    that is not asked.
    """
    idle = settings.workers.keys() - {*settings.sources, RANKER, GATEWAY}
    if idle:
        raise MeshError(f"--workers: the bundle was trained without {', '.join(sorted(idle))}")
    dynamodb = () if settings.dynamodb_endpoint else (_dynamodb(settings),)
    sources = tuple(
        _source(source, name, settings)
        for source in settings.sources
        for name in _names(source, settings)
    )
    rankers = tuple(
        ProcessSpec(
            name=name, argv=("services.ranker",), env=_common(settings), niceness=LEAF_NICENESS
        )
        for name in _names(RANKER, settings)
    )
    leaves = (*sources, *rankers)
    proxies = tuple(_proxy(leaf.name, settings) for leaf in leaves if settings.fault_proxies)
    gateways = tuple(
        _gateway(name, settings.port if number == 0 else 0, settings)
        for number, name in enumerate(_names(GATEWAY, settings))
    )
    return _with_extra_env((*dynamodb, *leaves, *proxies, *gateways), settings.extra_env)


def _names(part: str, settings: MeshSettings) -> tuple[str, ...]:
    """Return the names of a part's processes: numbered where it has several."""
    name = f"candidates-{part}" if part in KNOWN_SOURCES else part
    workers = settings.workers.get(part, 1)
    return (name,) if workers == 1 else tuple(f"{name}-{n}" for n in range(1, workers + 1))


def _reached_at(leaf: str, settings: MeshSettings) -> tuple[str, ...]:
    """Return the names of the processes at whose addresses the gateways find a leaf."""
    names = _names(leaf, settings)
    return tuple(map(_proxy_name, names)) if settings.fault_proxies else names


def _addresses(leaf: str, settings: MeshSettings) -> str:
    return ";".join(f"{{{name}}}" for name in _reached_at(leaf, settings))


def parse_workers(text: str) -> dict[str, int]:
    """Read `part=count[,part=count...]`. Raises MeshError naming the part at fault."""
    workers: dict[str, int] = {}
    for setting in filter(None, text.split(",")):
        name, _, count = setting.strip().partition("=")
        if name not in PARTS:
            raise MeshError(f"--workers {text!r}: {name!r} is none of {', '.join(PARTS)}")
        if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MAX_WORKERS:
            raise MeshError(f"--workers {text!r}: {name} has 1 to {MAX_WORKERS}, not {count!r}")
        workers[name] = int(count)
    return workers


def _dynamodb(settings: MeshSettings) -> ProcessSpec:
    return ProcessSpec(
        name="dynamodb",
        argv=("meshctl.embedded_dynamodb",),
        env={"RECMESH_LISTEN": _ANY_PORT, **_EMBEDDED_ACCOUNT},
        protocol="http",
        prepare=lambda address: settings.prepare_dynamodb(f"http://{address}"),
    )


def _source(source: str, name: str, settings: MeshSettings) -> ProcessSpec:
    needs_dynamodb = source == "trending"
    is_embedded = needs_dynamodb and not settings.dynamodb_endpoint
    dynamodb = _dynamodb_env(settings) if needs_dynamodb else {}
    return ProcessSpec(
        name=name,
        argv=("services.candidates",),
        env={**_common(settings), "RECMESH_SOURCE": source, **dynamodb},
        waits_for=("dynamodb",) if is_embedded else (),
        niceness=LEAF_NICENESS,
    )


def _proxy_name(leaf_process: str) -> str:
    return f"fault-{leaf_process}"


def _proxy(upstream: str, settings: MeshSettings) -> ProcessSpec:
    fault_file = settings.state_directory / "faults" / f"{upstream}.json"
    return ProcessSpec(
        name=_proxy_name(upstream),
        argv=("meshctl.faults",),
        env={
            "RECMESH_LISTEN": _ANY_PORT,
            "RECMESH_UPSTREAM": f"{{{upstream}}}",
            "RECMESH_FAULT_FILE": str(fault_file.absolute()),
        },
        waits_for=(upstream,),
    )


def _gateway(name: str, port: int, settings: MeshSettings) -> ProcessSpec:
    leaves = (*settings.sources, RANKER)
    reached = tuple(process for leaf in leaves for process in _reached_at(leaf, settings))
    sources = ",".join(f"{source}={_addresses(source, settings)}" for source in settings.sources)
    own = {
        "RECMESH_LISTEN": f"127.0.0.1:{port}",
        "RECMESH_SOURCES": sources,
        "RECMESH_RANKER": _addresses(RANKER, settings),
        "RECMESH_CONTROL_FILE": str(settings.control_file.absolute()),
        "RECMESH_REFLECTION": "true",
        "RECMESH_HISTORY": settings.history,
    }
    is_embedded = settings.history == "dynamodb" and not settings.dynamodb_endpoint
    return ProcessSpec(
        name=name,
        argv=("services.gateway",),
        env={**_common(settings), **own, **_history_env(settings)},
        waits_for=(*reached, "dynamodb") if is_embedded else reached,
    )


def _history_env(settings: MeshSettings) -> dict[str, str]:
    if settings.history == "bundle":
        return {}
    patience = {} if settings.dynamodb_endpoint else _EMBEDDED_HISTORY
    return {**_dynamodb_env(settings), **patience}


def _with_extra_env(
    specs: tuple[ProcessSpec, ...], extra_env: Mapping[str, Mapping[str, str]]
) -> tuple[ProcessSpec, ...]:
    unknown = extra_env.keys() - {name for spec in specs for name in (spec.name, _kind(spec.name))}
    if unknown:
        raise MeshError(f"extra_env: no process is called {', '.join(sorted(unknown))}")
    return tuple(replace(spec, env={**spec.env, **_extra(spec.name, extra_env)}) for spec in specs)


def _extra(name: str, extra_env: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {**extra_env.get(_kind(name), {}), **extra_env.get(name, {})}


def _kind(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def _dynamodb_env(settings: MeshSettings) -> dict[str, str]:
    if settings.dynamodb_endpoint:
        return {DYNAMODB_ENDPOINT: settings.dynamodb_endpoint}
    # Its tables are made by us, under the default prefix, whatever the caller's environment says.
    return {
        DYNAMODB_ENDPOINT: _EMBEDDED,
        TABLE_PREFIX: DEFAULT_TABLE_PREFIX,
        **_EMBEDDED_TIMEOUTS,
        **_EMBEDDED_ACCOUNT,
    }


def _common(settings: MeshSettings) -> dict[str, str]:
    return {
        **trace_settings(settings.trace_directory, os.environ),
        "RECMESH_LISTEN": _ANY_PORT,
        "RECMESH_BUNDLES": str(settings.bundles.absolute()),
        "RECMESH_BUNDLE_VERSION": settings.bundle_version or "",
        "RECMESH_HOLD_S": str(settings.hold_s),
        # Every process would try a new bundle for itself; here one does for all.
        "RECMESH_VERDICTS": str((settings.state_directory / "verdicts").absolute()),
        "RECMESH_CLOCK": settings.clock,
        # The gateway's part of a stop is 4 s; servers settle 0.25 s before they drain.
        "RECMESH_DRAIN_S": "3",
        # Two cores, six processes: each scores on one thread.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def dynamodb_endpoint_from_environment() -> str | None:
    """Return the caller's own DynamoDB endpoint; None asks for the embedded one."""
    return os.environ.get(DYNAMODB_ENDPOINT) or None
