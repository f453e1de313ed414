"""`meshctl trending`: fills the trending counters from a log."""

import time
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from meshctl.dynamodb import Endpoint, Prefix
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from pipeline.event_log import LogError
from pipeline.log_directory import LogDirectoryError, read_log_summary
from pipeline.trending_load import EmptyWindowError, TrendingLoad, load_trending
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.domain.trending import RollUpOutcome, TrendingStoreError

app = typer.Typer(no_args_is_help=True, help="Trending counts.")

Clock = Literal["bundle", "wall"]


@app.callback()
def _group() -> None:
    """Trending counts."""


@app.command()
def load(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A log directory.")],
    endpoint: Endpoint = None,
    prefix: Prefix = DEFAULT_TABLE_PREFIX,
    clock: Annotated[
        Clock,
        typer.Option(
            envvar="RECMESH_CLOCK",
            help="Where the window ends: at the log's last event (bundle) or now (wall).",
        ),
    ] = "wall",
) -> None:
    """Count the last week of a log and roll the counts up; loading again replaces them."""
    try:
        now_s = window_end_s(directory, clock)
        # By a clock that stands still, DynamoDB would delete the rows as long expired.
        store = DynamodbTrendingStore.connect(
            endpoint or None, TrendingTables(prefix), expires=clock == "wall"
        )
        result = load_trending(directory, store, now_s=now_s, shows_progress=True)
    except EmptyWindowError as exc:
        hint = "; --clock bundle takes the log's own last week" if clock == "wall" else ""
        _fail(f"{exc}{hint}")
    except (LogError, LogDirectoryError, TrendingStoreError) as exc:
        _fail(str(exc))
    _report(result)


def window_end_s(directory: Path, clock: Clock) -> float:
    """Return where the window of a log ends, unix seconds.

    By the bundle's clock a log without times ends at 0, as in the facts of its bundle. Raises
    LogDirectoryError.
    """
    summary = read_log_summary(directory)
    if clock == "wall":
        return time.time()
    return float(summary.last_timestamp or 0) if summary.order == "time" else 0.0


def _report(result: TrendingLoad) -> None:
    window, roll_up = result.window, result.roll_up
    if roll_up.outcome is RollUpOutcome.HELD_ELSEWHERE:
        _fail("counts are loaded, but another worker is rolling up; run this again in a minute")
    if roll_up.outcome is RollUpOutcome.LEASE_LOST:
        _fail("counts are loaded, but another worker took the roll-up over; check for two loaders")
    typer.echo(
        f"{window.events - window.unusable_events:,} events counted in "
        f"{len(window.segments):,} segments; {roll_up.written:,} tops written"
    )
    if window.unusable_events:
        typer.echo(f"{window.unusable_events:,} events left out: item id unusable as a key")


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
