"""Every method on every data set that is there: `python -m benchmarks.quality`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import machine_facts
from benchmarks.quality.child import SEED
from benchmarks.quality.data_sets import DATA_SETS, VARIABLE, DataSet
from benchmarks.quality.ours import OURS
from benchmarks.quality.results import (
    METHODS,
    Found,
    ResultsError,
    merged,
    over_seeds,
    read_results,
)
from benchmarks.quality.tables import Result, grids, markdown
from benchmarks.quality.tune import PEERS
from meshctl.evaluate import as_table
from meshctl.json_file import write_json
from pipeline.log_directory import read_log_summary

OUR_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
"""As `meshctl` sets them."""
PEER_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


def methods_for(order: str, wanted: Sequence[str]) -> list[str]:
    """Return what can be fitted on a log of this order, of what is wanted (nothing: all)."""
    names = [peer.name for peer in PEERS if order in peer.orders]
    return [name for name in (*names, OURS) if not wanted or name in wanted]


def ask_child(log: Path, method: str, data_set: DataSet, seed: int = SEED) -> Found:
    """Run one method in a process of its own. Raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "found.json"
        command = [sys.executable, "-m", "benchmarks.quality.child", "--log", str(log)]
        command += ["--method", method, "--data-set", data_set.name, "--out", str(out)]
        command += ["--seed", str(seed)]
        added = OUR_ENVIRONMENT if method == OURS else PEER_ENVIRONMENT
        subprocess.run(command, check=True, env={**os.environ, **added})  # noqa: S603 - our own
        found: Found = json.loads(out.read_text())
    return found


def measured(log: Path, method: str, data_set: DataSet, seeds: Sequence[int]) -> Found:
    """Return what a method is worth: ours over all seeds, a peer with its own."""
    if method != OURS:
        return ask_child(log, method, data_set)
    return over_seeds([ask_child(log, method, data_set, seed) for seed in seeds])


def compare(
    data_set: DataSet, log: Path, wanted: Sequence[str], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Measure every method on one log; after each yield all that was measured on it so far."""
    order, found = read_log_summary(log).order, {}
    for method in methods_for(order, wanted):
        print(f"{data_set.name}: {method}", file=sys.stderr, flush=True)
        found[method] = measured(log, method, data_set, seeds)
        result = {"data_set": data_set.name, "order": order, "methods": found}
        yield merged([{"sets": [result]}])[0]


def show(console: Console, result: Result) -> None:
    """Print the tables of a data set."""
    for grid in grids(result):
        console.print(as_table(grid))
        console.print(grid.about, highlight=False)


def read_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's arguments, or end with what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help=f"directory of the data sets; default ${VARIABLE}"
    )
    parser.add_argument("--sets", nargs="+", choices=[each.name for each in DATA_SETS])
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[SEED], help="ours is trained with each of them"
    )
    parser.add_argument("--json", type=Path, help="written anew after every method")
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        metavar="FILE.json",
        help="measure nothing: print what was stored as Markdown; of a method the last file counts",
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Import what is there, measure, print tables, and write them as JSON where asked."""
    arguments = read_arguments(given)
    if arguments.tables:
        print_tables(arguments.tables)
        return
    data = arguments.data or Path(os.environ.get(VARIABLE, ""))
    wanted = [each for each in DATA_SETS if arguments.sets is None or each.name in arguments.sets]
    present = [each for each in wanted if str(data) != "." and (data / each.folder).is_dir()]
    for each in wanted:
        if each not in present:
            print(f"{each.name} is skipped: no {each.folder}/ below {data}", file=sys.stderr)
    if not present:
        print(f"nothing to measure: give --data or ${VARIABLE}", file=sys.stderr)
        return
    run(present, data, arguments)


def print_tables(files: Sequence[Path]) -> None:
    """Print what several files hold, as Markdown."""
    try:
        written = [read_results(file) for file in files]
    except ResultsError as exc:
        raise SystemExit(f"error: {exc}") from exc
    print(markdown([each["machine"] for each in written], merged(written)), end="")


def run(data_sets: Sequence[DataSet], data: Path, arguments: argparse.Namespace) -> None:
    """Import and compare every data set, in order; what is measured is stored at once."""
    width = None if os.environ.get("COLUMNS") or sys.stdout.isatty() else 180
    console, machine = Console(width=width), machine_facts()
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        for each in data_sets:
            log = each.import_from(data, Path(made) / each.folder)
            result = None
            for result in compare(each, log, arguments.methods or (), arguments.seeds):
                if arguments.json:
                    write_json(arguments.json, {"machine": machine, "sets": [*done, result]})
            if result is not None:
                done.append(result)
                show(console, result)


if __name__ == "__main__":
    main()
