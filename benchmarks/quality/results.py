"""Results: what is stored of a run, over several seeds, and of several runs put together.

A file has `machine` and `sets`; a set has `data_set`, `order` and, by name, `methods`. What is said
of them (the verdict, every table) is made from that, so that parts measured apart can be put
together afterwards.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.ours import IN_MESH, OURS
from benchmarks.quality.tune import PEERS
from pipeline.metrics import METRICS

METHODS = (*(peer.name for peer in PEERS), OURS)
COMPARED_BY = {each.name: each.compared_by for each in DATA_SETS}

Found = Mapping[str, Any]
"""What was found of one method on one data set."""


class ResultsError(Exception):
    """A file that holds no results; the message names it."""


def over_seeds(runs: Sequence[Found]) -> dict[str, Any]:
    """Return runs of ours with several seeds as one: means, the highest peak, and every run.

    `spread` is the mean, least and most of the mesh's figures.
    """
    first = runs[0]
    return {
        **first,
        "rows": _mean_rows([each["rows"] for each in runs]),
        "sources": _mean_rows([each["sources"] for each in runs]),
        "spread": spread([each["rows"][0] for each in runs]),
        **{name: fmean(each[name] for each in runs) for name in ("train_s", "evaluate_s")},
        "peak_mib": max(each["peak_mib"] for each in runs),
        "runs": list(runs),
    }


def _mean_rows(by_run: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return rows, parallel in all runs, with their numbers averaged."""
    return [
        {
            name: value if isinstance(value, str) else fmean(row[name] for row in rows)
            for name, value in rows[0].items()
        }
        for rows in zip(*by_run, strict=True)
    ]


def spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean, least and most of every metric."""
    by_metric = {metric: [row[metric] for row in rows] for metric in METRICS}
    return {
        metric: {"mean": fmean(values), "least": min(values), "most": max(values)}
        for metric, values in by_metric.items()
    }


def verdict(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the mesh answers beside the best peer; None unless both were measured."""
    metric, methods = COMPARED_BY[result["data_set"]], result["methods"]
    peers = {name: each["rows"][0][metric] for name, each in methods.items() if name != OURS}
    ours = _compared_row(result)
    if ours is None or not peers:
        return None
    best = max(peers, key=lambda name: float(peers[name]))
    return {
        "metric": metric,
        "method": ours["method"],
        "value": ours[metric],
        "best_peer": best,
        "best_peer_value": peers[best],
        "ratio": ours[metric] / (peers[best] or 1e-9),
        "same_users": len({each["users"] for each in methods.values()}) == 1,
    }


def _compared_row(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the mesh's row: the mean over the seeds, where all of them have the same test cut.

    In a log without order a seed draws the holdout as well, and the peers know the first one's.
    """
    ours = result["methods"].get(OURS)
    if ours is None:
        return None
    found: Found = ours["runs"][0] if result["order"] == "none" else ours
    rows: list[Found] = found["rows"]
    return next(row for row in rows if row["method"] == IN_MESH)


def merged(written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets of several files, in the usual order; of a method the last file's counts."""
    found: dict[str, dict[str, Found]] = {}
    orders: dict[str, str] = {}
    for each in (each for file in written for each in file["sets"]):
        found.setdefault(each["data_set"], {}).update(each["methods"])
        orders[each["data_set"]] = each["order"]
    results = [
        {
            "data_set": name,
            "order": orders[name],
            "methods": {method: found[name][method] for method in METHODS if method in found[name]},
        }
        for name in COMPARED_BY
        if name in found
    ]
    return [{**result, "verdict": verdict(result)} for result in results]


def read_results(path: Path) -> dict[str, Any]:
    """Return what a file holds. Raises ResultsError."""
    try:
        written = json.loads(path.read_text())
    except OSError as exc:
        raise ResultsError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ResultsError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(written, dict) or not {"machine", "sets"} <= written.keys():
        raise ResultsError(f"{path} holds no results: it needs 'machine' and 'sets'")
    return written
