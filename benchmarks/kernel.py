"""The forest kernel against LightGBM's own predict: `python -m benchmarks.kernel`.

How this works. Two models of 1,000 trees are trained, of 31 and of 63 leaves, over 32 features of
which some are missing; their first 100 and 300 trees are models too. Each scores 50 to 1,000 rows
by `Booster.predict` with one thread, by the kernel, and by `Booster.predict` with two threads, in
turns, and the medians of the rounds are compared. What is timed is the call from Python, with a
float32 matrix in rows: what a ranker has. Scores must be equal to the last bit, or there are no
figures. With `--bundles` the ranker of the current bundle scores a user's own candidates as well.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_facts
from meshkit.bundles import open_store
from pipeline.offline_mesh import OfflineMesh, ranking_query
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.adapters.model_text import read_trees
from services.ranker.domain.features import assemble
from services.ranker.domain.forest import Forest
from signals.bundle_facts import BundleFacts

LEAVES = (31, 63)
TREES = (100, 300, 1_000)
ROWS = (50, 100, 500, 1_000)
N_FEATURES = 32
TRAINING_ROWS = 20_000
MISSING = 8
"""Features of which three in ten values are missing."""
ROUNDS = 15
LEAST_MS = 4.0
"""Of one measurement: a short call is repeated, so that the clock and a hiccup weigh little."""
NS_PER_MS = 1e6
SEED = 3
TARGETS: Mapping[int, float] = {31: 10.0, 63: 6.0}
"""Least ratio at `TARGET_ROWS` rows and `TARGET_TREES` trees, by leaves."""
TARGET_ROWS, TARGET_TREES = 500, 300

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One model and the rows that it scores."""

    name: str
    leaves: int
    trees: int
    booster: lgb.Booster
    forest: Forest
    features: Matrix


@dataclass(frozen=True, slots=True)
class Found:
    """Median times of one case, in milliseconds."""

    model: str
    leaves: int
    trees: int
    rows: int
    lightgbm_ms: float
    """One thread."""
    kernel_ms: float
    ratio: float
    """LightGBM's time by the kernel's, the median of the rounds' ratios."""
    lightgbm_two_threads_ms: float


def drawn(random: np.random.Generator, count: int) -> Matrix:
    """Return rows: numbers, counts with many zeros, and missing values."""
    features = random.normal(size=(count, N_FEATURES)).astype(np.float32)
    features[:, -4:] = np.round(np.abs(features[:, -4:]) * 3)
    features[:, :MISSING][random.random((count, MISSING)) < 0.3] = np.nan  # noqa: PLR2004 - a share
    return features


def trained(leaves: int) -> lgb.Booster:
    """Return a model of the most trees."""
    random = np.random.default_rng(SEED)
    features = drawn(random, TRAINING_ROWS)
    known = np.nan_to_num(features)
    signal = known[:, 0] + known[:, 10] * known[:, 11] + np.sin(known[:, 12]) + known[:, -1] / 3
    labels = (signal + random.normal(size=len(signal)) > 0).astype(np.int8)
    parameters = {
        "objective": "binary",
        "num_leaves": leaves,
        "learning_rate": 0.05,
        "min_data_in_leaf": 5,
        "feature_fraction": 0.8,
        "seed": SEED,
        "verbosity": -1,
    }
    return lgb.train(parameters, lgb.Dataset(features, labels), max(TREES))


def synthetic_cases(say: Callable[[str], None]) -> Iterator[Case]:
    """Yield every combination of leaves, trees and rows."""
    features = drawn(np.random.default_rng(SEED + 1), max(ROWS))
    for leaves in LEAVES:
        say(f"training {max(TREES)} trees of {leaves} leaves")
        whole = trained(leaves)
        for trees in TREES:
            text = whole.model_to_string(num_iteration=trees)
            booster, forest = lgb.Booster(model_str=text), Forest.of(read_trees(text))
            say(f"{trees} trees of {leaves} leaves")
            for rows in ROWS:
                yield Case("synthetic", leaves, trees, booster, forest, features[:rows].copy())


def bundle_cases(location: str) -> Iterator[Case]:
    """Yield the current bundle's ranker over the candidates of the user who has most."""
    bundle = open_store(location).open()
    mesh = OfflineMesh.open(bundle.path, BundleFacts.from_json(bundle.manifest.facts))
    text = (bundle.path / MODEL_FILE).read_text()
    trees = read_trees(text)
    matrices = []
    for key in mesh.tables.histories.user_keys[:20].tolist():
        history = mesh.history(key)
        candidates = mesh.candidates(history, mesh.ask_sources(history))
        matrices.append(assemble(ranking_query(candidates, history), mesh.item_tables()))
    yield Case(
        bundle.version,
        max(len(tree.leaf_values) for tree in trees),
        len(trees),
        lgb.Booster(model_str=text),
        Forest.of(trees),
        max(matrices, key=len),
    )


def measured(case: Case, rounds: int) -> Found:
    """Time a case in turns. Raises AssertionError unless all scores are the same."""

    def by_lightgbm(threads: int) -> NDArray[np.float64]:
        scores = case.booster.predict(case.features, raw_score=True, num_threads=threads)
        return np.asarray(scores)

    ways: Sequence[Callable[[], NDArray[np.float64]]] = (
        lambda: by_lightgbm(1),
        lambda: case.forest.raw_scores(case.features),
        lambda: by_lightgbm(2),
    )
    expected, *others = [way() for way in ways]
    for scores in others:
        if (scores.view(np.uint64) != expected.view(np.uint64)).any():
            raise AssertionError(f"{case.trees} trees of {case.leaves} leaves score otherwise")
    repeats = [max(1, round(LEAST_MS / timed_ms(way, 1))) for way in ways]
    times = np.array(
        [
            [timed_ms(way, count) for way, count in zip(ways, repeats, strict=True)]
            for _ in range(rounds)
        ]
    )
    one, kernel, two = np.median(times, axis=0).tolist()
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    return Found(case.name, case.leaves, case.trees, len(case.features), one, kernel, ratio, two)


def timed_ms(way: Callable[[], object], repeats: int) -> float:
    """Return how long one call takes."""
    started_ns = perf_counter_ns()
    for _ in range(repeats):
        way()
    return (perf_counter_ns() - started_ns) / NS_PER_MS / repeats


def targets_of(found: Sequence[Found]) -> list[dict[str, object]]:
    """Return what was wanted and what came of it."""
    return [
        {
            "leaves": one.leaves,
            "ratio": one.ratio,
            "target": TARGETS[one.leaves],
            "is_met": one.ratio >= TARGETS[one.leaves],
        }
        for one in found
        if one.model == "synthetic" and (one.rows, one.trees) == (TARGET_ROWS, TARGET_TREES)
    ]


def report(found: Sequence[Found], targets: Sequence[Mapping[str, object]], to: Console) -> None:
    """Print figures and targets."""
    table = Table(title="Raw scores, equal to the last bit; ms, medians")
    for name in ("model", "leaves", "trees", "rows", "LightGBM", "kernel", "ratio", "2 threads"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in found:
        table.add_row(
            one.model,
            *(f"{count:,}" for count in (one.leaves, one.trees, one.rows)),
            *(f"{ms:.3f}" for ms in (one.lightgbm_ms, one.kernel_ms)),
            f"{one.ratio:.1f}",
            f"{one.lightgbm_two_threads_ms:.3f}",
        )
    to.print(table)
    for one_target in targets:
        to.print(
            f"{TARGET_ROWS} rows x {TARGET_TREES} trees x {one_target['leaves']} leaves: "
            f"{one_target['ratio']:.1f}x, target {one_target['target']:g}x: "
            f"{'met' if one_target['is_met'] else 'MISSED'}"
        )


def main() -> None:
    """Measure, print the tables, and store them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", help="a store whose current bundle's ranker is measured too")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = [measured(case, arguments.rounds) for case in synthetic_cases(say)]
    if arguments.bundles:
        found += [measured(case, arguments.rounds) for case in bundle_cases(arguments.bundles)]
    targets = targets_of(found)
    report(found, targets, Console())
    if arguments.json:
        written = {
            "machine": machine_facts(),
            "rounds": arguments.rounds,
            "found": [asdict(one) for one in found],
            "targets": targets,
        }
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
