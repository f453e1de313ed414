"""`meshctl tune`: a recorded search for the settings of the ranker's forest."""

import shlex
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from meshctl.json_file import write_json
from meshctl.text_file import write_text
from meshctl.train import DEFAULT_SEED, Bars
from pipeline.event_log import LogError
from pipeline.log_directory import LogDirectoryError, LogSummary, read_log_summary
from pipeline.recipe import DEFAULT, Recipe, RecipeError, read_recipe, to_json, to_toml
from pipeline.tune import JUDGED_BY, RANGES, Search
from pipeline.tune import tune as run_search

DEFAULT_TRIALS = 40
"""The first ten of them are drawn at random: TPE has nothing to go by before."""
MOST_SEED = 2**31 - 1
"""LightGBM's seeds are 32-bit."""
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""


class TuneError(Exception):
    """A search that cannot be recorded where it was asked to be; the message names the file."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a search is recorded."""

    recipe: Path
    """The recipe file, whose name ends in .toml."""

    @property
    def trials(self) -> Path:
        """The trials, beside the recipe."""
        return self.recipe.with_suffix(".trials.json")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, as it is recorded."""

    command: str
    log: LogSummary
    trials: int
    seed: int


class Record:
    """Writes what a search has found after each trial, so that nothing found is lost."""

    def __init__(self, files: Files, question: Question, console: Console) -> None:
        self._files = files
        self._question = question
        self._console = console
        self.search: Search | None = None
        """What is written."""

    def add(self, search: Search) -> None:
        """Write the best recipe so far and all trials, and say what the last one was."""
        write_json(self._files.trials, record_of(search, self._question))
        write_text(self._files.recipe, to_toml(search.recipe, comment_of(search, self._question)))
        self.search = search
        self._console.print(line_of(search), highlight=False, soft_wrap=True)


def tune(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A log directory.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.toml",
            help="The recipe to write; FILE.trials.json beside it gets every trial.",
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(help="Where to start: a TOML file, or one of the project's own by its name."),
    ] = "",
    trials: Annotated[
        int, typer.Option(help="Forests to try, the starting recipe's among them.", min=1)
    ] = DEFAULT_TRIALS,
    seed: Annotated[
        int,
        typer.Option(help="Same seed, log and trials, same recipe.", min=0, max=MOST_SEED),
    ] = DEFAULT_SEED,
    timeout_s: Annotated[
        int | None,
        typer.Option(help="Begin no trial when trials have run for that long, in seconds.", min=1),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the files of an earlier search.")
    ] = False,
) -> None:
    """Search the settings of the ranker's forest, and write the best as a recipe.

    Candidates and features are collected once. Each trial learns from the older training cuts and
    is judged on the newest; the test cut is not read. What was found is written after each trial:
    Ctrl-C keeps it.
    """
    console = Console(stderr=True)
    files = Files(out)
    try:
        start = read_recipe(recipe) if recipe else DEFAULT
        command = command_of(directory, out, recipe, trials, seed, timeout_s)
        question = Question(command, read_log_summary(directory), trials, seed)
        check_files(files, may_replace=replace)
        record = Record(files, question, console)
        is_whole = _run(directory, start, question, timeout_s, record, console)
    except (RecipeError, LogError, LogDirectoryError, TuneError, OSError) as exc:
        console.print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    print_search(Console(), record.search, files)
    if not is_whole:
        console.print("interrupted: the search is not whole", highlight=False)
        raise typer.Exit(INTERRUPTED)


def _run(
    directory: Path,
    start: Recipe,
    question: Question,
    timeout_s: int | None,
    record: Record,
    console: Console,
) -> bool:
    """Search with progress bars; return False when Ctrl-C ended it."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    try:
        with (
            warnings.catch_warnings(),
            Progress(*columns, console=console, transient=True) as bars,
        ):
            # implicit warns about BLAS threads, which we limit, and about scipy's newer types.
            warnings.filterwarnings("ignore", module="implicit")
            run_search(
                directory,
                start,
                trials=question.trials,
                seed=question.seed,
                timeout_s=timeout_s,
                progress=Bars(bars),
                found=record.add,
            )
    except KeyboardInterrupt:
        return False
    return True


def check_files(files: Files, *, may_replace: bool) -> None:
    """Raise TuneError unless a search can be recorded there."""
    if files.recipe.suffix != ".toml":
        raise TuneError(f"--out {files.recipe}: a recipe's name ends in .toml")
    for path in (files.recipe, files.trials):
        if path.is_dir():
            raise TuneError(f"--out: {path} is a directory")
        if path.exists() and not may_replace:
            raise TuneError(f"--out: {path} exists already; --replace replaces it")
    folder = files.recipe.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise TuneError(f"--out: nothing can be written in {folder}: {exc.strerror}") from exc


def command_of(
    directory: Path, out: Path, recipe: str, trials: int, seed: int, timeout_s: int | None
) -> str:
    """Return the command that was given, with every default written out.

    Of absolute paths the name only: where a log lies on one machine means nothing on another.
    """
    options = {
        "--recipe": _name_of(recipe),
        "--trials": str(trials),
        "--seed": str(seed),
        "--timeout-s": "" if timeout_s is None else str(timeout_s),
        "--out": _name_of(str(out)),
    }
    given = [word for name, value in options.items() if value for word in (name, value)]
    return shlex.join(["meshctl", "tune", _name_of(str(directory)), *given])


def _name_of(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def comment_of(search: Search, question: Question) -> str:
    """Return what the head of a tuned recipe says of the search."""
    log, best, start = question.log, search.best, search.trials[0]
    lines = [
        f"Tuned: the best of {len(search.trials)} trials. Written by",
        f"  {question.command}",
        f"Log: {log.format}, order {log.order}, {log.events} events, {log.users} users, "
        f"{log.items} items",
        f"NDCG@10: {best.ndcg_10:.5f} in trial {best.number}; of the recipe to start from "
        f"{start.ndcg_10:.5f}",
        f"({JUDGED_BY})",
    ]
    if log.first_timestamp is not None:
        lines[2] += f",\n  from {log.first_timestamp} to {log.last_timestamp} (unix seconds)"
    return "\n".join(lines)


def record_of(search: Search, question: Question) -> dict[str, Any]:
    """Return a search as a JSON object."""
    return {
        "command": question.command,
        "log": asdict(question.log),
        "judged_by": JUDGED_BY,
        "seed": question.seed,
        "asked_trials": question.trials,
        "ranges": {name: list(limits) for name, limits in RANGES.items()},
        "start": to_json(search.start),
        "libraries": {name: version(name) for name in ("lightgbm", "optuna")},
        "best": search.best.number,
        "trials": [trial.to_json() for trial in search.trials],
    }


def line_of(search: Search) -> str:
    """Return what the last trial was, and what the best is, in a line."""
    trial, best = search.trials[-1], search.best
    settings = ", ".join(f"{name} {value:g}" for name, value in trial.settings.items())
    mark = " (best)" if trial is best else f" (best {best.ndcg_10:.5f}, trial {best.number})"
    return (
        f"trial {trial.number}: NDCG@10 {trial.ndcg_10:.5f}{mark}, {trial.trees} trees, "
        f"{trial.seconds:.1f} s: {settings}"
    )


def print_search(console: Console, search: Search | None, files: Files) -> None:
    """Print what was found and where it is written."""
    if search is None:
        console.print("no trial was finished: nothing is written", highlight=False)
        return
    best, start = search.best, search.trials[0]
    gain = f"the starting recipe has {start.ndcg_10:.5f}" if best.number else "no other was better"
    console.print(
        f"best of {len(search.trials)} trials: NDCG@10 {best.ndcg_10:.5f} in trial {best.number}; "
        f"{gain}\n"
        f"written: {files.recipe}, {files.trials}\n"
        f"train with it: meshctl train DIR --recipe {shlex.quote(str(files.recipe))}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
