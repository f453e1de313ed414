"""`meshctl data`: bring an interaction log in, or make one up."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Annotated

import duckdb
import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from pipeline.importing.import_log import STEPS, import_log
from pipeline.importing.registry import FORMATS
from pipeline.importing.staging import UnusableSourceError
from pipeline.log_directory import LogDirectoryError, LogSummary
from pipeline.synth.generate import synthesise_log
from pipeline.synth.settings import DEFAULT_EVENTS_PER_USER, SynthSettings, SynthSettingsError

PROGRESS_AFTER_S = 2.0

app = typer.Typer(help="Import an interaction log, or synthesise one.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="Log directory to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace --out if it is a log directory.")]


def _parse_format(text: str) -> str:
    if text not in FORMATS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(FORMATS)}")
    return text


@app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="File or folder to import.")],
    log_format: Annotated[
        str,
        typer.Option(
            "--format", parser=_parse_format, metavar="|".join(FORMATS), help="Layout of SRC."
        ),
    ],
    out: Out,
    items: Annotated[
        Path | None,
        typer.Option("--items", help="Items table (CSV or Parquet) to use as the catalogue."),
    ] = None,
    force: Force = False,
) -> None:
    """Import SRC into a log directory; rows that cannot be used are counted by reason."""
    with _plain_errors(), _late_progress("Importing", total=STEPS) as progress:
        task = progress.task_ids[0]
        done = iter(range(STEPS))
        summary = import_log(
            source,
            out,
            log_format=log_format,
            items=items,
            replace=force,
            on_step=lambda step: progress.update(task, description=step, completed=next(done)),
        )
    _show(summary, out)


@app.command("synth")
def synth_command(
    users: Annotated[int, typer.Option(help="Listeners.")],
    items: Annotated[int, typer.Option(help="Tracks, 100 to 1,000,000.")],
    days: Annotated[int, typer.Option(help="Length of the log, which ends at 2026-01-01.")],
    out: Out,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal logs.")] = 0,
    events_per_user: Annotated[
        float, typer.Option(help="Mean plays of a listener.")
    ] = DEFAULT_EVENTS_PER_USER,
    force: Force = False,
) -> None:
    """Synthesise a music world: tastes, scenes, artists, releases, sessions."""
    with _plain_errors():
        synthesise(SynthSettings(users, items, days, seed, events_per_user), out, replace=force)


def synthesise(settings: SynthSettings, out: Path, *, replace: bool) -> None:
    """Make a world with a progress bar, and show what it holds."""
    with _late_progress("Synthesising", total=1.0) as progress:
        summary = synthesise_log(
            settings,
            out,
            replace=replace,
            on_progress=lambda share: progress.update(progress.task_ids[0], completed=share),
        )
    _show(summary, out)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit status 1."""
    try:
        yield
    except (
        UnusableSourceError,
        LogDirectoryError,
        SynthSettingsError,
        OSError,
        duckdb.IOException,  # such as a full disk
        duckdb.OutOfMemoryException,
    ) as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc


@contextmanager
def _late_progress(description: str, *, total: float) -> Iterator[Progress]:
    """Give a progress bar with one task that shows itself after PROGRESS_AFTER_S."""
    progress = Progress(
        *Progress.get_default_columns()[:3], TimeElapsedColumn(), console=Console(stderr=True)
    )
    progress.add_task(description, total=total)
    show = Timer(PROGRESS_AFTER_S, progress.start)
    show.daemon = True
    show.start()
    try:
        yield progress
    finally:
        show.cancel()
        show.join()
        if progress.live.is_started:
            progress.stop()


def _show(summary: LogSummary, out: Path) -> None:
    table = Table(title=f"{out}", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_row("events", f"{summary.events:,}")
    table.add_row("users", f"{summary.users:,}")
    table.add_row("items with events", f"{summary.items:,}")
    table.add_row("items in the catalogue", f"{summary.catalogue_items:,}")
    table.add_row("ordered by", summary.order)
    if summary.first_timestamp is not None and summary.last_timestamp is not None:
        table.add_row("from", _as_utc(summary.first_timestamp))
        table.add_row("to", _as_utc(summary.last_timestamp))
    Console().print(table)
    if summary.rejected:
        Console().print(_rejected_table(summary.rejected))


def _rejected_table(rejected: Mapping[str, int]) -> Table:
    table = Table(title="Rows left out or mended", title_justify="left")
    table.add_column("reason")
    table.add_column("rows", justify="right")
    for reason, rows in sorted(rejected.items()):
        table.add_row(reason, f"{rows:,}")
    return table


def _as_utc(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
