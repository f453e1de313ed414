"""`meshctl drill`: breaks a local mesh on purpose, under load, and says which promises held."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meshctl.drills.report import Finding, is_failure, print_findings, write_findings
from meshctl.drills.run import SCENARIOS, run_drills
from meshctl.drills.stage import Scenario
from meshctl.drills.world import World, open_world, train_world
from meshctl.mesh_member import MeshError
from meshkit.bundles import BundleError

BundlesOption = Annotated[
    Path | None,
    typer.Option(help="Store whose current bundle is served; a synthetic one is trained if unset."),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option(help="Run this drill; may be repeated. See --list.")
]
SmallOption = Annotated[
    bool, typer.Option("--small", help="A few hundred requests each; promises about time pass.")
]
ListOption = Annotated[bool, typer.Option("--list", help="Name the drills and end.")]
DirectoryOption = Annotated[
    Path | None, typer.Option(help="Keep logs and records here; deleted at the end if unset.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Also write what was found to this file.")
]


def drill(
    *,
    bundles: BundlesOption = None,
    only: OnlyOption = None,
    small: SmallOption = False,
    list_: ListOption = False,
    directory: DirectoryOption = None,
    json: JsonOption = None,
) -> None:
    """Break a local mesh on purpose, under load, and print which promises it held.

    Kills, stops and cuts off its processes, slows and garbles what they say,
    floods it, and takes DynamoDB away. All of it takes under 25 minutes and
    wants the machine for itself. Ends with status 1 when a promise was not held.
    """
    console = Console()
    chosen = _chosen(only)
    if list_:
        for scenario in SCENARIOS:
            console.print(f"{scenario.name:18} {scenario.summary}", highlight=False, soft_wrap=True)
        return
    started_s = time.monotonic()
    try:
        with _own(directory) as own:
            findings = _run(chosen, bundles, own, is_small=small)
    except (MeshError, BundleError) as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    print_findings(console, findings, is_small=small)
    if json is not None:
        write_findings(json, findings, is_small=small)
    failures = sum(is_failure(finding, is_small=small) for finding in findings)
    console.print(
        f"{len(findings)} promises, {failures} not held, {time.monotonic() - started_s:.0f} s",
        highlight=False,
    )
    raise typer.Exit(1 if failures else 0)


@contextmanager
def _own(directory: Path | None) -> Iterator[Path]:
    """Give a directory that is there for as long as the block, or for good."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="recmesh-drill-") as temporary:
        yield Path(temporary)


def _run(
    chosen: Sequence[Scenario], bundles: Path | None, directory: Path, *, is_small: bool
) -> list[Finding]:
    console = Console(stderr=True)
    began_s = time.monotonic()

    def say(line: str) -> None:
        at_s = time.monotonic() - began_s
        console.print(f"{at_s:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True)

    world = _world(bundles, directory, console, is_small=is_small)
    return list(run_drills(chosen, world, directory, is_small=is_small, say=say))


def _world(bundles: Path | None, directory: Path, console: Console, *, is_small: bool) -> World:
    if bundles is not None:
        return open_world(bundles)
    console.print("training on a synthetic world", highlight=False)
    return train_world(directory / "world", is_small=is_small, console=console)


def _chosen(only: Sequence[str] | None) -> Sequence[Scenario]:
    names = [scenario.name for scenario in SCENARIOS]
    for name in only or ():
        if name not in names:
            raise typer.BadParameter(f"no drill is called {name!r}; there are {', '.join(names)}")
    return [scenario for scenario in SCENARIOS if not only or scenario.name in only]
