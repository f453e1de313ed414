"""One method on one log, in a process of its own, so that time and peak memory are its own."""

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.protocol import Window, measure, windows_of
from benchmarks.quality.tune import PEERS, Peer, Tuned, tune
from meshkit.bundles import open_store
from pipeline.evaluate import MethodQuality, half_width
from pipeline.event_log import EventLog, read_event_log
from pipeline.metrics import METRICS
from pipeline.recipe import Recipe, to_json
from pipeline.train import Holdout, train

OURS = "recmesh"
SEED = 1
TUNING_USERS = 2_000
"""Users of the validation window that peers are tuned on; more are drawn with the seed."""
KIB_PER_MIB = 1024

T = TypeVar("T")


@dataclass(slots=True)
class Timed:
    """Training progress that only looks at the clock."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Time the block."""
        began = perf_counter()
        yield
        self._add(description, began)

    def track(self, things: Sequence[T], description: str) -> Iterator[T]:
        """Yield `things` and time how long they take together."""
        began = perf_counter()
        yield from things
        self._add(description, began)

    def _add(self, description: str, began: float) -> None:
        self.seconds[description] = self.seconds.get(description, 0) + perf_counter() - began


def ours(log_directory: Path, recipe: Recipe) -> dict[str, Any]:
    """Train by a recipe with a holdout, and return every stage at the test cut."""
    timed = Timed()
    holdout: Holdout = "week" if read_event_log(log_directory).order == "time" else "last"
    began = perf_counter()
    with TemporaryDirectory(prefix="recmesh-") as bundles:
        trained = train(
            log_directory,
            open_store(Path(bundles)),
            holdout=holdout,
            seed=SEED,
            now=datetime.now(UTC),
            progress=timed,
            recipe=recipe,
        )
    took_s = perf_counter() - began
    evaluating_s = timed.seconds.get("evaluating", 0.0)
    return {
        "users": trained.report.users,
        "rows": [row_of(method) for method in trained.report.methods],
        "tuning_s": 0.0,
        "train_s": took_s - evaluating_s,
        "evaluate_s": evaluating_s,
        "steps_s": timed.seconds,
        "settings": {},
        "recipe": to_json(recipe),
        "tried": 0,
    }


def row_of(method: MethodQuality) -> dict[str, Any]:
    """Return a stage of ours under a name that says so."""
    return {**method.to_json(), "method": f"{OURS}: {method.method}"}


def peer_on(peer: Peer, log: EventLog, tuned_by: str) -> dict[str, Any]:
    """Tune a peer on the validation window, fit it before the test window, and measure it there."""
    validation, test = windows_of(log, seed=SEED)
    tuning = validation.sample(TUNING_USERS)
    began = perf_counter()
    found = tuned_on(peer, tuning, tuned_by)
    tuned_s = perf_counter() - began
    began = perf_counter()
    score = peer.fit(test.past)(found.settings)
    trained_s = perf_counter() - began
    began = perf_counter()
    values = measure(test, score)
    return {
        "users": len(test.users),
        "rows": [
            {
                "method": peer.name,
                **dict(zip(METRICS, values.mean(axis=0).tolist(), strict=True)),
                "ndcg_10_ci95": half_width(values[:, METRICS.index("ndcg_10")].tolist()),
            }
        ],
        "tuning_s": tuned_s,
        "train_s": trained_s,
        "evaluate_s": perf_counter() - began,
        "tuning_users": len(tuning.users),
        **asdict(found),
    }


def tuned_on(peer: Peer, window: Window, tuned_by: str) -> Tuned:
    """Return the settings of a peer that are best on a window; what was fitted there is gone."""
    column = METRICS.index(tuned_by)
    fitted = peer.fit(window.past)
    return tune(peer, lambda settings: float(measure(window, fitted(settings))[:, column].mean()))


def peak_mib() -> float:
    """Return the most memory that this process has held at once.

    Not `ru_maxrss`, which begins with what the parent held when it started this process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / KIB_PER_MIB


def main() -> None:
    """Measure one method and write what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--data-set", required=True, choices=tuple(each.name for each in DATA_SETS))
    parser.add_argument("--method", required=True, choices=(OURS, *(peer.name for peer in PEERS)))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data_set = next(each for each in DATA_SETS if each.name == arguments.data_set)
    # implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
    warnings.filterwarnings("ignore", module="implicit")
    if arguments.method == OURS:
        found = ours(arguments.log, data_set.recipe)
    else:
        peer = next(peer for peer in PEERS if peer.name == arguments.method)
        found = peer_on(peer, read_event_log(arguments.log), data_set.compared_by)
    arguments.out.write_text(json.dumps({**found, "peak_mib": peak_mib()}) + "\n")


if __name__ == "__main__":
    main()
