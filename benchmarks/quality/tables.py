"""The tables of the benchmark, for the terminal and in Markdown, from what is stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.quality.ours import MOST_DIFFERING, OURS, is_as_offline
from pipeline.quality.tables import METRIC_NAMES, Grid

COLUMNS = ("ndcg_10", "ndcg_20", "hit_10", "recall_100")
SPREAD = ("mean", "least", "most")
COSTS = {"tuning_s": "tuning s", "train_s": "training s", "peak_mib": "peak MiB"}

Result = Mapping[str, Any]
"""One data set of a file of results."""


def grids(result: Result) -> Iterator[Grid]:
    """Yield the tables of a data set; those of ours where it was measured."""
    yield methods(result)
    ours = result["methods"].get(OURS)
    if ours is not None:
        yield sources(result["data_set"], ours)
        if len(ours["runs"]) > 1:
            yield seeds(result["data_set"], ours)


def methods(result: Result) -> Grid:
    """Return every method, peers first."""
    found = result["methods"].values()
    asked = " or ".join(f"{count:,}" for count in sorted({each["users"] for each in found}))
    return Grid(
        f"{result['data_set']}, {asked} users",
        " ".join(sentences(result)),
        ("method", *(METRIC_NAMES[name] for name in COLUMNS), *COSTS.values(), "settings"),
        tuple(row for each in found for row in _method_rows(each)),
    )


def _method_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for place, row in enumerate(found["rows"]):
        costs = [_cost(found[name]) for name in COSTS] if not place else [""] * len(COSTS)
        settings = " ".join(f"{name}={value:g}" for name, value in found["settings"].items())
        yield row["method"], *_figures(row), *costs, settings


def _figures(row: Mapping[str, Any]) -> list[str]:
    figures = {name: f"{row[name]:.4f}" for name in COLUMNS}
    figures["ndcg_10"] += f" ±{row['ndcg_10_ci95']:.4f}"
    return list(figures.values())


def _cost(cost: float) -> str:
    return f"{cost:,.1f}" if cost else "-"


def sentences(result: Result) -> Iterator[str]:
    """Yield what is to be said of a data set: the verdict, and how the mesh answered."""
    judged, ours = result["verdict"], result["methods"].get(OURS)
    if judged is not None:
        yield (
            f"{judged['method']}: {judged['value']:.4f}, {judged['ratio']:.2f} times "
            f"{judged['best_peer']}, by {METRIC_NAMES[judged['metric']]}."
        )
        if not judged["same_users"]:
            yield "THE METHODS WERE NOT ASKED FOR THE SAME USERS."
    for run in ours["runs"] if ours is not None else ():
        yield from _mesh_sentences(run["seed"], run["mesh"])


def _mesh_sentences(seed: int, mesh: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Seed {seed}: the mesh was asked for {mesh['users']:,} users in {mesh['seconds']:.1f} s, "
        f"{mesh['per_s']:.0f} a second; {mesh['failed']} failed, {mesh['degraded']} degraded, "
        f"{mesh['narrowed']} narrowed, {mesh['differing']} not the offline list."
    )
    if not is_as_offline(mesh):
        yield f"THE MESH DIFFERS FROM THE OFFLINE LISTS FOR MORE THAN {MOST_DIFFERING:.0%}."


def sources(data_set: str, ours: Mapping[str, Any]) -> Grid:
    """Return what each source finds, and what only it finds."""
    return Grid(
        f"{data_set}, unique contribution of the sources",
        "Share of the targets anywhere in a source's answer, and the share that no other source "
        "found: what retrieval loses without it.",
        ("source", "answered", "recall", "recall lost without it"),
        tuple(
            (
                each["source"],
                f"{each['answered']:.0f}",
                f"{each['recall']:.4f}",
                f"{each['unique_recall']:.4f}",
            )
            for each in ours["sources"]
        ),
    )


def seeds(data_set: str, ours: Mapping[str, Any]) -> Grid:
    """Return what the mesh answers by seed, and the spread."""
    by_seed = ((str(run["seed"]), *_figures(run["rows"][0])) for run in ours["runs"])
    over_all = (
        (name, *(f"{ours['spread'][metric][name]:.4f}" for metric in COLUMNS)) for name in SPREAD
    )
    return Grid(
        f"{data_set}, {OURS} by seed",
        "What the mesh answers; training was repeated with each seed.",
        ("seed", *(METRIC_NAMES[name] for name in COLUMNS)),
        (*by_seed, *over_all),
    )


def markdown(machines: Iterable[Mapping[str, Any]], results: Sequence[Result]) -> str:
    """Return all tables of several data sets, and what they were measured on."""
    measured_on = dict.fromkeys(map(_machine, machines))
    shown = [_markdown_of(grid) for result in results for grid in grids(result)]
    return "\n\n".join([*(f"Measured on {each}." for each in measured_on), *shown]) + "\n"


def _machine(facts: Mapping[str, Any]) -> str:
    return f"{facts['cores']} cores of {facts['processor']}, Python {facts['python']}"


def _markdown_of(grid: Grid) -> str:
    rules = ("---", *["---:"] * (len(grid.headings) - 1))
    table = "\n".join(f"| {' | '.join(row)} |" for row in (grid.headings, rules, *grid.rows))
    return f"### {grid.title}\n\n{table}\n\n{grid.about}".rstrip()
