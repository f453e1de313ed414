"""What was found, as tables."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.growth.bundles import GROUPS
from benchmarks.growth.found import Load, Size, Target
from benchmarks.growth.memory import MIB, Memory
from benchmarks.growth.mesh import TOUCHING_REQUESTS, Answered, LeafCost, second_worker_shares
from benchmarks.growth.retrieval import WANTED_RECALL

MOST_SHARE = 0.35
MOST_RATIO = 6.0
LEAST_ITEMS, MOST_ITEMS = 10_000, 1_000_000
"""The sizes that the targets speak of."""

Rows = Iterator[tuple[str, list[str]]]
"""A name and a cell for each size."""


def targets(sizes: Sequence[Size]) -> list[Target]:
    """Return the targets whose sizes were measured."""
    by_items = {size.items: size for size in sizes}
    if MOST_ITEMS not in by_items:
        return []
    most = by_items[MOST_ITEMS]
    shares = [
        Target(f"{leaf}: USS of the second worker / RSS of the first", share, MOST_SHARE)
        for leaf, share in second_worker_shares(most.memory).items()
    ]
    if LEAST_ITEMS not in by_items:
        return shares
    least = by_items[LEAST_ITEMS]
    is_reached = least.retrieval.is_reached and most.retrieval.is_reached
    ratio = most.retrieval.point.p50_ms / least.retrieval.point.p50_ms if is_reached else math.inf
    what = f"retrieval p50 at {MOST_ITEMS:,} / at {LEAST_ITEMS:,}, recall >= {WANTED_RECALL}"
    return [Target(what, ratio, MOST_RATIO), *shares]


def show(console: Console, sizes: Sequence[Size], loads: Sequence[Load]) -> None:
    """Print every table."""
    for title, rows in (
        ("The bundle", _bundle_rows(sizes)),
        ("Retrieval of 100, one thread", _retrieval_rows(sizes)),
        ("Seconds from start to SERVING, one process after the other", _start_rows(sizes)),
        (
            f"Memory in MiB: RSS / USS / anonymous, after {TOUCHING_REQUESTS:,} requests",
            _memory_rows(sizes),
        ),
        ("A request of one caller", _request_rows(sizes)),
    ):
        console.print(_by_size(title, sizes, rows))
    for load in loads:
        name = f"{load.items:,} items"
        console.print(_leaf_table(f"The ranker by candidates, {name}", load.ranker))
        console.print(_leaf_table(f"`ann` by length of its list, {name}", load.retrieval))
        console.print(_callers_table(f"Callers, {name}", load.callers))
    console.print(_targets_table(targets(sizes)))


def _by_size(title: str, sizes: Sequence[Size], rows: Rows) -> Table:
    table = _table(title, ["", *(f"{size.items:,}" for size in sizes)])
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _bundle_rows(sizes: Sequence[Size]) -> Rows:
    for step in sizes[0].making_s:
        yield f"{step}, s", [f"{size.making_s[step]:.1f}" for size in sizes]
    yield "index alone, s", [f"{size.retrieval.build_s:.1f}" for size in sizes]
    for group in (*GROUPS, "other", "all"):
        yield f"{group}, MiB", [f"{size.bytes_by_group[group] / MIB:,.1f}" for size in sizes]


def _retrieval_rows(sizes: Sequence[Size]) -> Rows:
    least = [size.retrieval.point for size in sizes]
    configured = [size.retrieval.configured for size in sizes]
    yield "trees", [str(point.trees) for point in least]
    yield f"search_k for recall {WANTED_RECALL}", [f"{point.search_k:,}" for point in least]
    yield "its recall@100", [f"{point.recall_at_100:.3f}" for point in least]
    yield "its p50, ms", [f"{point.p50_ms:.3f}" for point in least]
    yield "search_k as configured", [f"{point.search_k:,}" for point in configured]
    yield "its recall@100", [f"{point.recall_at_100:.3f}" for point in configured]
    yield "its p50, ms", [f"{point.p50_ms:.3f}" for point in configured]


def _start_rows(sizes: Sequence[Size]) -> Rows:
    for name in sizes[0].start_s:
        yield name, [f"{size.start_s[name]:.1f}" for size in sizes]


def _memory_rows(sizes: Sequence[Size]) -> Rows:
    for name in sizes[0].memory:
        yield name, [_memory_cell(size.memory[name]) for size in sizes]
    shares = [second_worker_shares(size.memory) for size in sizes]
    for leaf in shares[0]:
        yield f"{leaf}: USS of 2 / RSS of 1", [f"{each[leaf]:.0%}" for each in shares]


def _memory_cell(held: Memory) -> str:
    return " / ".join(f"{part / MIB:,.0f}" for part in (held.rss, held.uss, held.anonymous))


def _request_rows(sizes: Sequence[Size]) -> Rows:
    yield "p50, ms", [f"{size.request.p50_ms:.2f}" for size in sizes]
    yield "p99, ms", [f"{size.request.p99_ms:.2f}" for size in sizes]
    for kind in sizes[0].request.cpu_ms:
        yield f"CPU of {kind}, ms", [f"{size.request.cpu_ms[kind]:.2f}" for size in sizes]


def _leaf_table(title: str, costs: Sequence[LeafCost]) -> Table:
    table = _table(title, ["candidates", "p50, ms", "CPU, ms"])
    for cost in costs:
        table.add_row(f"{cost.candidates:,}", f"{cost.p50_ms:.2f}", f"{cost.cpu_ms:.2f}")
    return table


def _callers_table(title: str, callers: Sequence[Answered]) -> Table:
    columns = ["callers", "p50, ms", "p99, ms", "answers/s", "refused", "failed", "quality"]
    table = _table(title, [*columns, "gateway RSS, MiB"])
    for each in callers:
        table.add_row(
            str(each.callers),
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            f"{each.per_s:.0f}",
            f"{each.refused / each.requests:.1%}",
            f"{each.failed / each.requests:.1%}",
            f"{each.mean_quality:.2f}",
            f"{each.gateway.rss / MIB:.0f}",
        )
    return table


def _targets_table(found: Sequence[Target]) -> Table:
    table = _table("Targets", ["what", "value", "target", "met"])
    for target in found:
        met = "yes" if target.is_met else "no"
        table.add_row(target.what, f"{target.value:.2f}", f"<= {target.at_most:g}", met)
    return table
