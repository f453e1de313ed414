"""`meshctl train`: from a log directory to a published bundle."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from meshctl.standard_mesh import DEFAULT_BUNDLES
from meshkit.bundles import BundleError, open_store
from pipeline.event_log import LogError
from pipeline.log_directory import LogDirectoryError
from pipeline.recipe import DEFAULT, Recipe, RecipeError, read_recipe
from pipeline.train import Holdout, Report, Trained
from pipeline.train import train as run_training

T = TypeVar("T")

DEFAULT_SEED = 1


def train(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A log directory.")],
    bundles: Annotated[Path, typer.Option(help="Where to publish.")] = DEFAULT_BUNDLES,
    holdout: Annotated[
        Holdout,
        typer.Option(help="Publish as of the test cut, to validate through the mesh."),
    ] = "none",
    seed: Annotated[
        int, typer.Option(help="Same seed and log, same bundle.", min=0)
    ] = DEFAULT_SEED,
    recipe: Annotated[
        str,
        typer.Option(help="What to train: a TOML file, or one of the project's own by its name."),
    ] = "",
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate", help="Keep in the bundle what `meshctl evaluate` finds at the test cut."
        ),
    ] = False,
) -> None:
    """Train on a log directory and publish the bundle.

    Embeds items, builds indexes and lists, trains the ranker on candidates as of earlier cuts,
    evaluates it on a later window, then rebuilds everything on the whole log.
    """
    console = Console(stderr=True)
    try:
        trained = train_with_progress(
            directory,
            bundles,
            holdout=holdout,
            seed=seed,
            console=console,
            recipe=read_recipe(recipe) if recipe else DEFAULT,
            evaluates=evaluate,
        )
    except (RecipeError, LogError, LogDirectoryError, BundleError) as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    print_report(Console(), trained)


def train_with_progress(
    directory: Path,
    bundles: Path,
    *,
    holdout: Holdout,
    seed: int,
    console: Console,
    recipe: Recipe = DEFAULT,
    evaluates: bool = False,
) -> Trained:
    """Run the training with a progress bar for every step, on `console`."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with (
        warnings.catch_warnings(),
        Progress(*columns, console=console, transient=True) as bars,
    ):
        # implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
        warnings.filterwarnings("ignore", module="implicit")
        return run_training(
            directory,
            open_store(bundles),
            holdout=holdout,
            seed=seed,
            now=datetime.now(UTC),
            progress=Bars(bars),
            recipe=recipe,
            evaluates=evaluates,
        )


def print_report(console: Console, trained: Trained) -> None:
    """Print the evaluation as a table, and where the bundle is."""
    report, version = trained.report, trained.bundle.version
    console.print(report_table(report))
    for note in (report.cuts, *report.notes):
        console.print(f"  {note}", style="dim", highlight=False)
    console.print(f"published {version} in {trained.location}", highlight=False)
    if report.evaluation is not None:
        console.print(
            f"  see it: meshctl evaluate {version} --bundles {trained.location} --report page.html",
            highlight=False,
            soft_wrap=True,
        )
    promotion = trained.promotion
    if promotion.is_allowed:
        console.print(f"promoted: {promotion.reason}", highlight=False)
    else:
        console.print(
            f"[bold]not promoted[/]: {promotion.reason}\n"
            f"  compare: meshctl bundle diff {trained.bundle.manifest.parent} {version} "
            f"--bundles {trained.location}\n"
            f"  promote it anyway: meshctl bundle promote {version} --force "
            f"--bundles {trained.location}",
            highlight=False,
            soft_wrap=True,
        )


def report_table(report: Report) -> Table:
    """Return the evaluation as a table, a method a row."""
    table = Table(title=f"evaluation on {report.users} users", title_justify="left")
    table.add_column("method", no_wrap=True)
    for name in ("NDCG@10", "NDCG@20", "HR@10", "recall@20", "recall@100", "covered"):
        table.add_column(name, justify="right")
    for method in report.methods:
        others = (
            method.ndcg_20,
            method.hit_10,
            method.recall_20,
            method.recall_100,
            method.catalogue_coverage,
        )
        with_interval = f"{method.ndcg_10:.4f} ±{method.ndcg_10_ci95:.4f}"
        table.add_row(method.method, with_interval, *(f"{figure:.4f}" for figure in others))
    return table


class Bars:
    """Training progress as bars: one that runs for a step, one that fills for a list."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Show a bar without end while the block runs."""
        task = self._bars.add_task(description, total=None)
        try:
            yield
        finally:
            self._bars.remove_task(task)

    def track(self, things: Sequence[T], description: str) -> Iterator[T]:
        """Yield `things` and fill a bar."""
        task = self._bars.add_task(description, total=len(things))
        try:
            for thing in things:
                yield thing
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)
