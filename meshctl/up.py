"""`meshctl up`: the local mesh in the foreground."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meshctl.foreground import supervise
from meshctl.mesh_member import MeshError
from meshctl.prepare import prepare_dynamodb
from meshctl.run_file import STATE_DIRECTORY
from meshctl.standard_mesh import (
    DEFAULT_BUNDLES,
    DEFAULT_CONTROL_FILE,
    DEFAULT_PORT,
    Clock,
    History,
    MeshSettings,
    dynamodb_endpoint_from_environment,
    parse_workers,
    standard_mesh,
)
from meshctl.traces.places import trace_directory_for
from meshkit.bundles import Bundle, BundleError, open_store, readable
from meshkit.shelf import DEFAULT_HOLD_S
from signals.bundle_facts import BundleFacts

BundlesOption = Annotated[Path, typer.Option(help="Directory of published bundles.")]
PortOption = Annotated[
    int, typer.Option(help="The (first) gateway's port on 127.0.0.1; 0 for any.")
]
ClockOption = Annotated[
    Clock, typer.Option(help="What now is: the end of the bundle's log, or the wall clock.")
]
ControlFileOption = Annotated[
    Path, typer.Option(help="File that switches sources off; see `meshctl source`.")
]
HistoryOption = Annotated[
    History,
    typer.Option(
        help="Where users' histories are read: in the bundle, or in DynamoDB. The embedded one is "
        "filled with the bundle's; another is yours to fill with `meshctl history load`."
    ),
]
WorkersOption = Annotated[
    str,
    typer.Option(
        help="Processes of a part, such as gateway=2,ranker=2,ann=2; one where nothing is said."
    ),
]
HoldOption = Annotated[
    float,
    typer.Option(min=0.5, max=86_400, help="Seconds that a replaced bundle stays, to go back to."),
]


def up(
    bundles: BundlesOption = DEFAULT_BUNDLES,
    port: PortOption = DEFAULT_PORT,
    clock: ClockOption = "bundle",
    control_file: ControlFileOption = DEFAULT_CONTROL_FILE,
    workers: WorkersOption = "",
    hold_s: HoldOption = DEFAULT_HOLD_S,
    history: HistoryOption = "bundle",
) -> None:
    """Start the local mesh and serve until Ctrl-C.

    Every source that the bundle was trained on, the ranker and the gateway get a process of their
    own, and so
    does an embedded DynamoDB unless RECMESH_DYNAMODB_ENDPOINT names another.
    They follow the store's pointer: what is promoted is served in a moment.
    A process that ends is started again at the same address. Logs are in .recmesh/logs,
    and traces in .recmesh/traces unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector.
    """
    console = Console(stderr=True)
    try:
        bundle = current_bundle(bundles)
        settings = MeshSettings(
            bundles=bundles,
            sources=sources_of(bundle),
            workers=parse_workers(workers),
            hold_s=hold_s,
            prepare_dynamodb=partial(
                prepare_dynamodb,
                bundles=bundles,
                version=bundle.version,
                with_histories=history == "dynamodb",
            ),
            history=history,
            port=port,
            clock=clock,
            control_file=control_file,
            dynamodb_endpoint=dynamodb_endpoint_from_environment(),
            trace_directory=trace_directory_for(STATE_DIRECTORY, os.environ),
        )
        mesh = standard_mesh(settings, say=partial(_say, console))
        supervise(mesh, console=console)
    except MeshError as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc


def current_bundle(bundles: Path) -> Bundle:
    """Return the bundle that `bundles` serves, or raise MeshError."""
    try:
        store = open_store(bundles)
        return store.open(store.current())
    except BundleError as exc:
        raise MeshError(f"{exc} (--bundles names another store)") from exc


def sources_of(bundle: Bundle) -> tuple[str, ...]:
    """Return the sources that a bundle's ranker was trained on, or raise MeshError."""
    try:
        with readable(bundle):
            return BundleFacts.from_json(bundle.manifest.facts).sources
    except (BundleError, ValueError) as exc:
        raise MeshError(f"{bundle.version}: {exc}; train it anew") from exc


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
