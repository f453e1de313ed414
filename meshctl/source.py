"""`meshctl source`: switches candidate sources of a running mesh off and on."""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated

import typer

from meshctl.json_file import read_json_object, write_json
from meshctl.run_file import STATE_DIRECTORY, RunFileError, read_run
from meshctl.standard_mesh import DEFAULT_CONTROL_FILE
from services.ranker.domain.features import SOURCES

app = typer.Typer(help="Switch candidate sources off and on while the mesh runs.")

NameArgument = Annotated[str, typer.Argument(help=f"The source: {', '.join(SOURCES)}.")]
ControlFileOption = Annotated[
    Path | None,
    typer.Option(
        help=f"The gateway's control file; the running mesh's own, else {DEFAULT_CONTROL_FILE}."
    ),
]


@app.command()
def enable(name: NameArgument, control_file: ControlFileOption = None) -> None:
    """Let the gateway ask a source again."""
    path = control_file or running_control_file()
    _rewrite(path, disabled_sources(path) - {_known(name)})
    typer.echo(f"{name} is on ({path})")


@app.command()
def disable(name: NameArgument, control_file: ControlFileOption = None) -> None:
    """Keep the gateway from asking a source; answers say so in their coverage."""
    path = control_file or running_control_file()
    _rewrite(path, disabled_sources(path) | {_known(name)})
    typer.echo(f"{name} is off ({path})")


def disabled_sources(control_file: Path) -> frozenset[str]:
    """Return the names that the file switches off, none without a file.

    Raises typer.BadParameter naming the file and its fault.
    """
    try:
        names = read_json_object(control_file).get("disabled_sources", [])
    except FileNotFoundError:
        return frozenset()
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise typer.BadParameter(f"{control_file}: disabled_sources must be a list of names")
    return frozenset(names)


def running_control_file() -> Path:
    """Return the control file of the mesh that runs in this directory, else the default."""
    try:
        return Path(read_run(STATE_DIRECTORY / "run.json").control_file)
    except (FileNotFoundError, RunFileError):
        return DEFAULT_CONTROL_FILE


def _rewrite(control_file: Path, disabled: AbstractSet[str]) -> None:
    write_json(control_file, {"disabled_sources": sorted(disabled)})


def _known(name: str) -> str:
    if name not in SOURCES:
        raise typer.BadParameter(f"no source is called {name!r}; there are {', '.join(SOURCES)}")
    return name
