"""`meshctl demo`: a synthetic music world, trained, served, asked, and stopped."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import typer
from rich.console import Console

from meshctl.data import synthesise
from meshctl.local_mesh import LocalMesh
from meshctl.mesh_member import MeshError
from meshctl.prepare import prepare_dynamodb
from meshctl.slate_table import print_slate
from meshctl.standard_mesh import MeshSettings, standard_mesh
from meshctl.start_display import StartDisplay
from meshctl.traces.places import DEMO_DIRECTORY, store_from, trace_directory_for
from meshctl.traces.show import show_waterfall
from meshctl.traces.store import TraceStoreError
from meshctl.traces.trace_name import TraceName, parse_trace_name, recorded_call
from meshctl.train import DEFAULT_SEED, print_report, train_with_progress
from pipeline.log_directory import EVENTS_FILE
from pipeline.synth.settings import SynthSettings
from recmesh_client import RecommendationClient, RecommendError

WORLD = SynthSettings(users=2_000, items=3_000, days=60, seed=7)
PAGE_SIZE = 10
LIGHT_PLAYS = 8
"""Plays of the light listener, about: enough to have a taste, too few to be sure of it."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody to ask for."""

    title: str
    user_id: str = ""
    seed_item_ids: tuple[str, ...] = ()


def demo() -> None:
    """Make a world, train on it, serve it, ask for four listeners, and stop.

    The last answer's trace is shown too: which process took how long for what.
    """
    console = Console()
    started_s = time.monotonic()
    log, bundles = DEMO_DIRECTORY / "log", DEMO_DIRECTORY / "bundles"
    with _chapter(console, f"a world of {WORLD.users:,} listeners and {WORLD.items:,} tracks"):
        synthesise(WORLD, log, replace=True)
    with _chapter(console, "training on it"):
        progress_console = Console(stderr=True)
        trained = train_with_progress(
            log, bundles, holdout="none", seed=DEFAULT_SEED, console=progress_console
        )
        print_report(console, trained)
    try:
        is_answered = serve_and_ask(log, bundles, trained.bundle.version, console)
    except MeshError as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    console.print(
        f"\n[bold]done[/] in {time.monotonic() - started_s:.0f} s; everything is stopped. Yours to "
        f"go on with:\n  .venv/bin/meshctl up --bundles {bundles}\n"
        "  .venv/bin/meshctl trace --last\n"
        f"  .venv/bin/meshctl recommend {listeners(log)[0].user_id}   (in another terminal)",
        highlight=False,
    )
    raise typer.Exit(0 if is_answered else 1)


def serve_and_ask(log: Path, bundles: Path, version: str, console: Console) -> bool:
    """Serve a version, print a slate for each listener and the last one's trace, and stop.

    Returns whether every listener got a slate. Raises MeshError.
    """
    with _serving(bundles, version, console) as mesh:
        last = _ask(mesh.address("gateway"), listeners(log), console)
        if last is not None:
            _show_trace(last, console)
        return last is not None


def listeners(log: Path) -> tuple[Listener, ...]:
    """Return whom the demo asks for, picked from a log directory."""
    with duckdb.connect() as db:
        db.read_parquet(str(log / EVENTS_FILE)).create_view("events")
        by_plays = "SELECT user_id, count(*) AS plays FROM events GROUP BY user_id"
        heavy = db.execute(f"{by_plays} ORDER BY plays DESC, user_id LIMIT 1").fetchall()[0]
        light = db.execute(
            f"{by_plays} ORDER BY abs(plays - {LIGHT_PLAYS}), user_id LIMIT 1"
        ).fetchall()[0]
        seed = db.execute(
            "SELECT item_id FROM events GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT 1"
        ).fetchall()[0]
    return (
        Listener(f"a heavy listener: {heavy[0]}, {heavy[1]} plays", heavy[0]),
        Listener(f"a light listener: {light[0]}, {light[1]} plays", light[0]),
        Listener("a listener that the mesh does not know", "nobody-yet"),
        Listener(f"an anonymous one who just played {seed[0]}", "", (seed[0],)),
    )


@contextmanager
def _serving(bundles: Path, version: str, console: Console) -> Iterator[LocalMesh]:
    """Run the local mesh for as long as the block does."""
    settings = MeshSettings(
        bundles=bundles,
        bundle_version=version,
        prepare_dynamodb=partial(prepare_dynamodb, bundles=bundles, version=version),
        port=0,
        state_directory=DEMO_DIRECTORY,
        control_file=DEMO_DIRECTORY / "control.json",
        trace_directory=trace_directory_for(DEMO_DIRECTORY, os.environ),
    )
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with standard_mesh(settings, say=say) as mesh:
        with (
            _chapter(console, "starting the mesh: a process a source, the ranker, the gateway"),
            StartDisplay(Console(stderr=True)) as display,
        ):
            mesh.start(show=display.show)
        for process in mesh.processes():
            say(f"  {process.name:20} {process.address:22} pid {process.pid}")
        yield mesh


def _ask(gateway: str, asked: tuple[Listener, ...], console: Console) -> TraceName | None:
    """Print a slate for each; return the last one's trace, None unless every one got a slate."""
    console.rule("asking for recommendations", align="left")
    with RecommendationClient(gateway) as client:
        for listener in asked:
            try:
                slate = client.recommend(
                    listener.user_id,
                    page_size=PAGE_SIZE,
                    seed_item_ids=listener.seed_item_ids,
                    metadata=recorded_call().metadata,
                )
            except RecommendError as exc:
                console.print(f"error: {listener.title}: {exc}", markup=False)
                return None
            console.print()
            print_slate(console, listener.title, slate)
            if not slate.items:
                return None
    return parse_trace_name(slate.recommendation_id)


def _show_trace(name: TraceName, console: Console) -> None:
    console.rule("the trace of the last answer", align="left")
    directory = trace_directory_for(DEMO_DIRECTORY, os.environ)
    try:
        show_waterfall(console, store_from(os.environ, directory=directory), name)
    except (TraceStoreError, ValueError) as exc:
        # It may be somewhere else: the environment has a say in where traces go.
        console.print(f"not shown: {exc}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _chapter(console: Console, title: str) -> Iterator[None]:
    console.rule(title, align="left")
    started_s = time.monotonic()
    yield
    console.print(f"  {time.monotonic() - started_s:.1f} s", style="dim", highlight=False)
