"""`meshctl evaluate`: a bundle against what its users did after it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from meshctl.json_file import write_json
from meshctl.standard_mesh import DEFAULT_BUNDLES
from meshctl.text_file import write_text
from meshctl.train import Bars
from meshkit.bundles import MANIFEST, Bundle, BundleError, open_store, readable
from pipeline.bundle_report import report_of
from pipeline.evaluate import EvaluationError
from pipeline.event_log import LogError, read_event_log
from pipeline.log_directory import LogDirectoryError
from pipeline.offline_mesh import OfflineMesh
from pipeline.quality.cases import cases_after, sample
from pipeline.quality.evaluation import Evaluation, Subject, evaluate_bundle
from pipeline.quality.page import page
from pipeline.quality.stored import stored_evaluation
from pipeline.quality.tables import Grid, grids
from pipeline.train import MAX_TESTED_USERS
from pipeline.verify_bundle import verify
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.adapters.scoring_model import open_model
from services.ranker.domain.features import feature_names
from signals.bundle_facts import BundleFacts

DEFAULT_SEED = 1


def evaluate(
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE", help="A version of --bundles, or a bundle's directory."),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A log that goes on after the bundle; without it: what training found.",
        ),
    ] = None,
    bundles: Annotated[
        str, typer.Option(help="The bundle store: a directory, or s3://bucket/prefix.")
    ] = str(DEFAULT_BUNDLES),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML page with charts.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A source or feature group to leave out, several together; each alone anyway.",
        ),
    ] = None,
    users: Annotated[
        int, typer.Option(help="Users to ask for at most; more are sampled.", min=1)
    ] = MAX_TESTED_USERS,
    seed: Annotated[
        int, typer.Option(help="Draws users and bootstrap resamples.", min=0)
    ] = DEFAULT_SEED,
) -> None:
    """Evaluate a bundle against what its users did after it, through the serving code.

    Train with --holdout to keep something back; with --evaluate what is found is in the bundle.
    """
    console = Console(stderr=True)
    try:
        if against is None:
            asked = without or users != MAX_TESTED_USERS or seed != DEFAULT_SEED
            found = show_stored(bundle, bundles, is_asked_anew=bool(asked))
        else:
            found = run(
                bundle,
                against,
                bundles,
                without=without or (),
                users=users,
                seed=seed,
                console=console,
            )
        write(found, report, json_file)
    except (BundleError, LogError, LogDirectoryError, EvaluationError, OSError) as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    print_evaluation(Console(), found)


def write(found: Evaluation, report: Path | None, json_file: Path | None) -> None:
    """Write the page and the figures where they are asked for. Raises OSError."""
    if json_file is not None:
        write_json(json_file, found.to_json())
    if report is not None:
        write_text(report, page(found))


def show_stored(bundle: str, bundles: str, *, is_asked_anew: bool) -> Evaluation:
    """Return what training found. Raises BundleError, or EvaluationError for other questions."""
    if is_asked_anew:
        raise EvaluationError(
            "--without, --users and --seed ask a bundle anew: --against DIR names the log for that"
        )
    return stored_evaluation(find_bundle(bundle, bundles))


def run(
    bundle: str,
    against: Path,
    bundles: str,
    *,
    without: Sequence[str],
    users: int,
    seed: int,
    console: Console,
) -> Evaluation:
    """Evaluate with a progress bar on `console`.

    Raises BundleError, LogError, LogDirectoryError or EvaluationError.
    """
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        bars = Bars(shown)
        with bars.step("reading the log"):
            log = read_event_log(against)
        with bars.step("verifying the bundle"):
            subject = open_subject(find_bundle(bundle, bundles))
        return evaluate_bundle(
            subject,
            sample(cases_after(subject.mesh.tables, log), users, seed=seed),
            without=without,
            seed=seed,
            track=lambda asked: bars.track(asked, "asking for every user"),
        )


def find_bundle(bundle: str, bundles: str) -> Bundle:
    """Return the bundle of a directory, or of a version in a store. Raises BundleError."""
    directory = Path(bundle)
    if (directory / MANIFEST).is_file():
        return open_store(directory.resolve().parent).open(directory.resolve().name)
    return open_store(bundles).open(bundle)


def open_subject(bundle: Bundle) -> Subject:
    """Verify a bundle apart from this process, then open it. Raises BundleError."""
    verdict = verify(bundle.path)
    if not verdict.is_sound:
        raise BundleError(f"{bundle.version} is not sound: {verdict.reason}")
    with readable(bundle):
        facts = BundleFacts.from_json(bundle.manifest.facts)
        return Subject(
            version=bundle.version,
            mesh=OfflineMesh.open(bundle.path, facts),
            model=open_model(bundle.path, feature_names()),
            model_text=(bundle.path / MODEL_FILE).read_text(),
            report=report_of(bundle),
        )


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print every table of an evaluation."""
    for grid in grids(evaluation):
        console.print(as_table(grid))
        console.print(f"  {grid.about}\n", style="dim", highlight=False)
    for note in evaluation.notes:
        console.print(f"  {note}", style="dim", highlight=False)


def as_table(grid: Grid) -> Table:
    """Return a grid as a table of the terminal."""
    table = Table(title=grid.title, title_justify="left")
    for place, heading in enumerate(grid.headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table
