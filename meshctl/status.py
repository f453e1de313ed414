"""`meshctl status`: the processes of the local mesh and their health."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from meshctl.health import Health, health_of
from meshctl.run_file import STATE_DIRECTORY, Run, RunFileError, RunningProcess, read_run
from meshctl.versions import Refused, Versions, versions_of

HEALTH_TIMEOUT_S = 1.0

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process now; `health` is what it says itself."""

    name: str
    address: str
    pid: int
    restarts: int
    alive: bool
    health: Health
    versions: Versions


def status(as_json: JsonOption = False) -> None:
    """Show each process of the mesh that runs in this directory; exits 1 unless all serve."""
    run = _read_run_or_exit(STATE_DIRECTORY / "run.json")
    statuses = process_statuses(run.processes)
    if as_json:
        typer.echo(json.dumps(_as_object(run, statuses), indent=2))
    else:
        console = Console()
        console.print(_table(run, statuses))
        for line in _refusals(statuses):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    is_whole = run.supervisor.is_alive() and all(one.health == "SERVING" for one in statuses)
    raise typer.Exit(0 if is_whole else 1)


def process_statuses(processes: Sequence[RunningProcess]) -> list[ProcessStatus]:
    """Ask all processes at once; takes 2 s at most, an ended one is UNREACHABLE."""
    with ThreadPoolExecutor(max_workers=max(1, len(processes))) as pool:
        return list(pool.map(_status_of, processes))


def _status_of(process: RunningProcess) -> ProcessStatus:
    is_alive = process.identity.is_alive()
    # Another program may have taken the port of an ended one.
    address = process.address if is_alive else ""
    health = health_of(address, protocol=process.protocol, timeout_s=HEALTH_TIMEOUT_S)
    versions = versions_of(address, protocol=process.protocol, timeout_s=HEALTH_TIMEOUT_S)
    return ProcessStatus(
        process.name,
        process.address,
        process.pid,
        process.restarts,
        is_alive,
        health,
        versions,
    )


def _read_run_or_exit(path: Path) -> Run:
    try:
        return read_run(path)
    except FileNotFoundError as exc:
        typer.echo("no mesh runs in this directory; start one with `meshctl up`", err=True)
        raise typer.Exit(1) from exc
    except RunFileError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from exc


def _as_object(run: Run, statuses: Sequence[ProcessStatus]) -> dict[str, object]:
    return {
        "started_at": run.started_at,
        "bundles": run.bundles,
        "clock": run.clock,
        "pid": run.supervisor.pid,
        "alive": run.supervisor.is_alive(),
        "processes": [asdict(one) for one in statuses],
    }


def _table(run: Run, statuses: Sequence[ProcessStatus]) -> Table:
    table = Table(title=_title(run), title_justify="left")
    for heading in ("process", "address", "pid", "alive", "health", "serves", "also holds"):
        # A version that is cut cannot be copied; on a narrow terminal it is folded instead.
        table.add_column(heading, justify="right" if heading == "pid" else "left", overflow="fold")
    for one in statuses:
        colour = "green" if one.health == "SERVING" else "red"
        table.add_row(
            one.name,
            one.address or "-",
            str(one.pid),
            _alive(one),
            f"[{colour}]{one.health}[/]",
            one.versions.current or "-",
            ", ".join(each for each in one.versions.held if each != one.versions.current) or "-",
        )
    return table


def _alive(one: ProcessStatus) -> str:
    # No column of its own: 80 characters are few, and mostly there is nothing to say.
    restarts = f", restarts: {one.restarts}" if one.restarts else ""
    return f"{'yes' if one.alive else 'no'}{restarts}"


def _refusals(statuses: Sequence[ProcessStatus]) -> list[str]:
    """Return a line for each version refused and reason, with the processes that say so."""
    by_refusal: dict[Refused, list[str]] = {}
    for one in statuses:
        for refused in one.versions.refused:
            by_refusal.setdefault(refused, []).append(one.name)
    return [
        f"refused: {refused.version} by {', '.join(names)}: {refused.reason}"
        for refused, names in by_refusal.items()
    ]


def _title(run: Run) -> str:
    supervisor = f"meshctl up, pid {run.supervisor.pid}"
    if not run.supervisor.is_alive():
        supervisor += " (has ended without cleaning up)"
    return f"{supervisor}, since {run.started_at}; bundles {run.bundles}, clock {run.clock}"
