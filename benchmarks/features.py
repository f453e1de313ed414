"""The feature columns of item-to-item links against numpy's: `python -m benchmarks.features`.

How this works. Requests of 50 or 200 plays and 500 candidates are drawn over a catalogue of
100,000 items, whose every item has a list of 200 neighbours; 4,000 items, the most played, take
part in the regressions, and plays and candidates come from them mostly. Each request asks for
other rows, so tables come from memory as they do in serving. Columns of each relation and whole
matrices are computed by the ranker's code and by numpy's in turns, and compared: unless they are
equal but for rounding there are no figures. A time is the least of the rounds for each request,
which leaves out what the machine did beside it; the median and the 99th percentile are those of
the requests.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_facts
from benchmarks.peers import numpy_features
from pipeline.item_regressions import SUCCESSOR_SCALES
from pipeline.transitions import TRANSITION_SCALES
from services.ranker.domain.features import (
    FEATURE_GROUPS,
    RELATIONS,
    SOURCES,
    assemble,
    feature_names,
)
from services.ranker.domain.values import ItemTables, RankingQuery, SourceColumn
from signals.bundle import (
    Companions,
    Embedding,
    ItemStats,
    ItemTraits,
    Neighbours,
    PairWeights,
    Successors,
    Transitions,
)
from signals.bundle_facts import BundleFacts

N_ITEMS = 100_000
LIST_LENGTH = 200
PAIRED_ITEMS = 4_000
"""Items that take part in the regressions."""
PAIRED_SHARE = 0.9
"""Of plays and candidates that are among them."""
DIMENSION = 64
CANDIDATES = 500
PLAYS = (50, 200)
REQUESTS = 60
ROUNDS = 9
AS_OF_S = 1_700_000_000
SEED = 5
NS_PER_MS = 1e6
TARGET_MS, TARGET_PLAYS = 0.5, 50
"""The median of the columns of `LIMITED` together is at most this, for so many plays."""
LIMITED = ("link", "next", "together")
RELATIVE_ERROR, ABSOLUTE_ERROR = 1e-4, 1e-5
ALL_RELATIONS, MATRIX = "all relations", "whole matrix"

Matrix = NDArray[np.float32]
Compute = Callable[[RankingQuery], Matrix]
AnyWeights = TypeVar("AnyWeights", bound=PairWeights)


@dataclass(frozen=True, slots=True)
class Way:
    """Columns that are computed in two ways, float32 [features, candidates]."""

    columns: str
    features: tuple[str, ...]
    ours: Compute
    numpys: Compute


@dataclass(frozen=True, slots=True)
class Found:
    """Times of the same columns, ours and numpy's, in milliseconds."""

    columns: str
    plays: int
    candidates: int
    ours_ms: float
    ours_p99_ms: float
    numpy_ms: float
    numpy_p99_ms: float


def drawn_tables(random: np.random.Generator) -> ItemTables:
    """Return tables in the sizes of a large bundle; what they say is drawn."""
    vectors = random.normal(size=(N_ITEMS, DIMENSION)).astype(np.float32)
    shares = random.dirichlet(np.ones(N_ITEMS)).astype(np.float32)
    rank, place, depth, late = random.random((4, N_ITEMS), dtype=np.float32)
    first_s = random.integers(AS_OF_S - 10**8, AS_OF_S, N_ITEMS)
    paired = np.sort(random.choice(N_ITEMS, PAIRED_ITEMS, replace=False)).astype(np.uint32)
    lists = (np.arange(N_ITEMS)[:, None] + drawn_steps(random)) % N_ITEMS
    scores = -np.sort(-random.random((N_ITEMS, LIST_LENGTH), dtype=np.float32)) / LIST_LENGTH
    return ItemTables(
        facts=drawn_facts(),
        embedding=Embedding(vectors, vectors.astype(np.float64).T @ vectors),
        neighbours=Neighbours(lists.astype(np.uint32), scores.astype(np.float32)),
        successors=drawn_weights(Successors, random, paired, SUCCESSOR_SCALES),
        companions=drawn_weights(Companions, random, paired, (np.inf,)),
        transitions=drawn_weights(Transitions, random, paired, TRANSITION_SCALES),
        stats=ItemStats(
            share=shares,
            recent_share=shares[::-1].copy(),
            share_rank=rank,
            first_played_s=first_s,
            place=place,
            depth=depth,
            late_share=late,
        ),
        traits=ItemTraits(
            artists=random.integers(0, N_ITEMS // 10, N_ITEMS).astype(np.uint32),
            recordings=np.arange(N_ITEMS, dtype=np.uint32),
            genres=random.integers(0, 200, (N_ITEMS, 3)).astype(np.uint16),
            released=random.uniform(1960, 2023, N_ITEMS).astype(np.float32),
            rights=np.zeros(N_ITEMS, dtype=np.uint16),
        ),
    )


def drawn_facts() -> BundleFacts:
    """Return facts that fit the tables."""
    return BundleFacts(
        order="time",
        as_of_s=AS_OF_S,
        window_start_s=0,
        recent_window_s=604_800,
        items=N_ITEMS,
        users=1,
        events=1,
        dimension=DIMENSION,
        metric="angular",
        als_confidence=40.0,
        als_regularization=0.05,
        sources=SOURCES,
        features=feature_names(),
    )


def drawn_steps(random: np.random.Generator) -> NDArray[np.int64]:
    """Return how far from each item its neighbours are, each once, [items, list length]."""
    return np.cumsum(random.integers(1, N_ITEMS // LIST_LENGTH, (N_ITEMS, LIST_LENGTH)), axis=1)


def drawn_weights(
    kind: type[AnyWeights],
    random: np.random.Generator,
    rows: NDArray[np.uint32],
    scales: Sequence[float],
) -> AnyWeights:
    """Return weights between the items of `rows`."""
    places = np.full(N_ITEMS, -1, dtype=np.int32)
    places[rows] = np.arange(len(rows))
    shape = (len(scales), len(rows), len(rows))
    return kind(
        places=places,
        scales=np.array(scales, dtype=np.float32),
        rows=rows,
        weights=random.integers(-32_767, 32_768, shape, dtype=np.int16),
        units=random.uniform(1e-7, 1e-5, shape[:2]).astype(np.float32),
    )


def drawn_request(random: np.random.Generator, tables: ItemTables, plays: int) -> RankingQuery:
    """Return a request whose plays and candidates take part in the regressions mostly."""
    paired = tables.successors.rows
    alone = np.setdiff1d(np.arange(N_ITEMS, dtype=np.uint32), paired)
    n_paired = round(CANDIDATES * PAIRED_SHARE)
    rows = np.concatenate(
        [
            random.choice(paired, n_paired, replace=False),
            random.choice(alone, CANDIDATES - n_paired, replace=False),
        ]
    )
    is_paired = random.random(plays) < PAIRED_SHARE
    played = np.where(is_paired, random.choice(paired, plays), random.choice(alone, plays))
    ranks = np.arange(1, CANDIDATES + 1, dtype=np.uint32)
    sources = {name: SourceColumn(ranks, random.random(CANDIDATES, "f4")) for name in SOURCES}
    ages_s = np.sort(random.random(plays, "f4") * np.float32(1e6))
    return RankingQuery(random.permutation(rows), sources, played, ages_s)


def ways(tables: ItemTables) -> Iterator[Way]:
    """Yield each relation, those with a limit, all of them, and the whole matrix."""
    prefixes = [relation.prefix for relation in RELATIONS]
    both = [
        Way(
            group.name,
            tuple(feature.name for feature in group.features),
            partial(looked_up, group.compute, tables),
            partial(looked_up, numpys, tables),
        )
        for group, numpys in zip(FEATURE_GROUPS, numpy_features.COMPUTED, strict=True)
        if group.name in prefixes
    ]
    yield from both
    yield together(", ".join(LIMITED), [way for way in both if way.columns in LIMITED])
    yield together(ALL_RELATIONS, both)
    yield Way(
        MATRIX,
        feature_names(),
        lambda query: assemble(query, tables).T,
        lambda query: numpy_features.assemble(query, tables).T,
    )


def together(name: str, several: Sequence[Way]) -> Way:
    """Return several relations as one."""
    return Way(
        name,
        tuple(feature for way in several for feature in way.features),
        partial(one_by_one, [way.ours for way in several]),
        partial(one_by_one, [way.numpys for way in several]),
    )


def looked_up(
    compute: Callable[[RankingQuery, ItemTables], Matrix], tables: ItemTables, query: RankingQuery
) -> Matrix:
    """Return what `compute` finds for a request."""
    return compute(query, tables)


def one_by_one(computes: Sequence[Compute], query: RankingQuery) -> Matrix:
    """Return the columns of several relations, below each other."""
    return np.concatenate([compute(query) for compute in computes])


def measured(way: Way, queries: Sequence[RankingQuery], rounds: int) -> Found:
    """Time both in turns. Raises AssertionError unless they find the same columns."""
    for query in queries:
        require_equal(way.features, way.ours(query), way.numpys(query))
    times = np.array(
        [
            [[timed_ms(compute, query) for compute in (way.ours, way.numpys)] for query in queries]
            for _ in range(rounds)
        ]
    )
    ours, numpys = times.min(axis=0).T
    return Found(
        way.columns,
        len(queries[0].history_rows),
        len(queries[0].rows),
        float(np.median(ours)),
        float(np.percentile(ours, 99)),
        float(np.median(numpys)),
        float(np.percentile(numpys, 99)),
    )


def require_equal(features: Sequence[str], ours: Matrix, numpys: Matrix) -> None:
    """Raise AssertionError where columns differ by more than rounding, which may swap two ranks."""
    if not len(features) == len(ours) == len(numpys):
        raise AssertionError(f"{len(ours)} columns and numpy's {len(numpys)}, not {len(features)}")
    for name, one, other in zip(features, ours, numpys, strict=True):
        is_near = np.isclose(one, other, RELATIVE_ERROR, ABSOLUTE_ERROR, equal_nan=True)
        if name.endswith("_rank"):
            is_near |= np.abs(one - other) <= 1
        if not is_near.all():
            raise AssertionError(f"{name}: {(~is_near).sum()} values are not numpy's")


def timed_ms(compute: Compute, query: RankingQuery) -> float:
    """Return how long one call takes."""
    started_ns = perf_counter_ns()
    compute(query)
    return (perf_counter_ns() - started_ns) / NS_PER_MS


def target_of(found: Sequence[Found]) -> dict[str, object]:
    """Return what was wanted and what came of it."""
    asked = next(
        one for one in found if (one.columns, one.plays) == (", ".join(LIMITED), TARGET_PLAYS)
    )
    return {
        "columns": asked.columns,
        "plays": asked.plays,
        "ms": asked.ours_ms,
        "target_ms": TARGET_MS,
        "is_met": asked.ours_ms <= TARGET_MS,
    }


def report(found: Sequence[Found], target: Mapping[str, object], to: Console) -> None:
    """Print figures and the target."""
    table = Table(title="Feature columns, equal but for rounding; ms")
    for name in ("columns", "plays", "candidates", "ours", "p99", "numpy", "p99", "ratio"):
        table.add_column(name, justify="left" if name == "columns" else "right")
    for one in found:
        times = (one.ours_ms, one.ours_p99_ms, one.numpy_ms, one.numpy_p99_ms)
        table.add_row(
            one.columns,
            *(f"{count:,}" for count in (one.plays, one.candidates)),
            *(f"{ms:.3f}" for ms in times),
            f"{one.numpy_ms / one.ours_ms:.1f}",
        )
    to.print(table)
    to.print(
        f"{target['columns']}, {target['plays']} plays x {CANDIDATES} candidates: "
        f"{target['ms']:.3f} ms, target {TARGET_MS:g} ms: "
        f"{'met' if target['is_met'] else 'MISSED'}"
    )


def main() -> None:
    """Measure, print the table, and store it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(SEED)
    tables = drawn_tables(random)
    found: list[Found] = []
    for plays in PLAYS:
        queries = [drawn_request(random, tables, plays) for _ in range(REQUESTS)]
        found += [measured(way, queries, arguments.rounds) for way in ways(tables)]
    target = target_of(found)
    report(found, target, Console())
    if arguments.json:
        written = {
            "machine": machine_facts(),
            "rounds": arguments.rounds,
            "found": [asdict(one) for one in found],
            "target": target,
        }
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
