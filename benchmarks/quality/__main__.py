"""Every method on every data set that is there: `python -m benchmarks.quality`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_facts
from benchmarks.quality.data_sets import DATA_SETS, VARIABLE, DataSet
from benchmarks.quality.tune import PEERS
from pipeline.log_directory import read_log_summary

OURS = "recmesh"
COLUMNS = {
    "ndcg_10": "NDCG@10",
    "ndcg_20": "NDCG@20",
    "hit_10": "HR@10",
    "recall_100": "recall@100",
}
OUR_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
"""As `meshctl` sets them."""
PEER_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}

Found = Mapping[str, Any]


def methods_for(order: str, wanted: Sequence[str]) -> list[str]:
    """Return what can be fitted on a log of this order, of what is wanted (nothing: all)."""
    names = [peer.name for peer in PEERS if order in peer.orders]
    return [name for name in (*names, OURS) if not wanted or name in wanted]


def ask_child(log: Path, method: str, data_set: DataSet) -> Found:
    """Run one method in a process of its own. Raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "found.json"
        command = [sys.executable, "-m", "benchmarks.quality.child", "--log", str(log)]
        command += ["--method", method, "--data-set", data_set.name, "--out", str(out)]
        added = OUR_ENVIRONMENT if method == OURS else PEER_ENVIRONMENT
        subprocess.run(command, check=True, env={**os.environ, **added})  # noqa: S603 - our own
        found: Found = json.loads(out.read_text())
    return found


def table_of(data_set: DataSet, found: Mapping[str, Found]) -> Table:
    """Return a data set's methods as a table, peers first."""
    users = sorted({each["users"] for each in found.values()})
    asked = " or ".join(f"{count:,}" for count in users)
    table = Table(title=f"{data_set.name}: {asked} users", title_justify="left")
    table.add_column("method", no_wrap=True)
    for heading in (*COLUMNS.values(), "tuning s", "training s", "peak MiB"):
        table.add_column(heading, justify="right")
    table.add_column("settings")
    for each in found.values():
        for place, row in enumerate(each["rows"]):
            costs = (each["tuning_s"], each["train_s"], each["peak_mib"])
            spent = [f"{cost:,.1f}" if cost else "-" for cost in costs] if not place else [""] * 3
            settings = " ".join(f"{name}={value:g}" for name, value in each["settings"].items())
            table.add_row(row["method"], *_figures(row), *spent, settings)
    return table


def _figures(row: Mapping[str, Any]) -> list[str]:
    figures = {name: f"{row[name]:.4f}" for name in COLUMNS}
    figures["ndcg_10"] += f" ±{row['ndcg_10_ci95']:.4f}"
    return list(figures.values())


def verdict(data_set: DataSet, found: Mapping[str, Found]) -> dict[str, Any] | None:
    """Return the ranked list of ours beside the best peer; None unless both were measured."""
    metric = data_set.compared_by
    peers = {name: each["rows"][0][metric] for name, each in found.items() if name != OURS}
    if OURS not in found or not peers:
        return None
    best = max(peers, key=lambda name: float(peers[name]))
    ranked = found[OURS]["rows"][0][metric]
    return {
        "metric": metric,
        "ranked": ranked,
        "best_peer": best,
        "best_peer_value": peers[best],
        "ratio": ranked / (peers[best] or 1e-9),
        "same_users": len({each["users"] for each in found.values()}) == 1,
    }


def compare(
    data_set: DataSet, log: Path, wanted: Sequence[str], console: Console
) -> dict[str, Any]:
    """Measure every method on one log, print the table, and return all figures."""
    order = read_log_summary(log).order
    found = {}
    for method in methods_for(order, wanted):
        print(f"{data_set.name}: {method}", file=sys.stderr, flush=True)
        found[method] = ask_child(log, method, data_set)
    console.print(table_of(data_set, found))
    judged = verdict(data_set, found)
    if judged is not None:
        console.print(
            f"ranked {judged['ranked']:.4f}, {judged['ratio']:.2f} times {judged['best_peer']}, "
            f"by {COLUMNS[judged['metric']]}",
            highlight=False,
        )
        if not judged["same_users"]:
            console.print("[bold]the methods were not asked for the same users[/]")
    return {"data_set": data_set.name, "order": order, "methods": found, "verdict": judged}


def main() -> None:
    """Import what is there, measure, print tables, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help=f"directory of the data sets; default ${VARIABLE}"
    )
    parser.add_argument("--sets", nargs="+", choices=[each.name for each in DATA_SETS])
    parser.add_argument("--methods", nargs="+", choices=[*(p.name for p in PEERS), OURS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = arguments.data or Path(os.environ.get(VARIABLE, ""))
    wanted = [each for each in DATA_SETS if arguments.sets is None or each.name in arguments.sets]
    present = [each for each in wanted if str(data) != "." and (data / each.folder).is_dir()]
    for each in wanted:
        if each not in present:
            print(f"{each.name} is skipped: no {each.folder}/ below {data}", file=sys.stderr)
    if not present:
        print(f"nothing to measure: give --data or ${VARIABLE}", file=sys.stderr)
        return
    width = None if os.environ.get("COLUMNS") or sys.stdout.isatty() else 180
    console, machine = Console(width=width), machine_facts()
    written = {"machine": machine, "sets": run(present, data, arguments.methods or (), console)}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")


def run(
    data_sets: Sequence[DataSet], data: Path, methods: Sequence[str], console: Console
) -> list[dict[str, Any]]:
    """Import and compare every data set, in order."""
    with tempfile.TemporaryDirectory() as made:
        return [
            compare(each, each.import_from(data, Path(made) / each.folder), methods, console)
            for each in data_sets
        ]


if __name__ == "__main__":
    main()
