"""One method on one log, in a process of its own, so that time and peak memory are its own."""

import argparse
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.ours import OURS, ours
from benchmarks.quality.protocol import Window, measure, windows_of
from benchmarks.quality.tune import PEERS, Peer, Tuned, tune
from pipeline.evaluate import half_width
from pipeline.event_log import EventLog, read_event_log
from pipeline.metrics import METRICS
from pipeline.progress import peak_mib

SEED = 1
TUNING_USERS = 2_000
"""Users of the validation window that peers are tuned on; more are drawn with the seed."""


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
        "peak_mib": peak_mib(),
        **asdict(found),
    }


def tuned_on(peer: Peer, window: Window, tuned_by: str) -> Tuned:
    """Return the settings of a peer that are best on a window; what was fitted there is gone."""
    column = METRICS.index(tuned_by)
    fitted = peer.fit(window.past)
    return tune(peer, lambda settings: float(measure(window, fitted(settings))[:, column].mean()))


def main() -> None:
    """Measure one method and write what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--data-set", required=True, choices=tuple(each.name for each in DATA_SETS))
    parser.add_argument("--method", required=True, choices=(OURS, *(peer.name for peer in PEERS)))
    parser.add_argument("--seed", type=int, default=SEED, help="of ours")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data_set = next(each for each in DATA_SETS if each.name == arguments.data_set)
    # implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
    warnings.filterwarnings("ignore", module="implicit")
    if arguments.method == OURS:
        found = ours(arguments.log, data_set.recipe, seed=arguments.seed)
    else:
        peer = next(peer for peer in PEERS if peer.name == arguments.method)
        found = peer_on(peer, read_event_log(arguments.log), data_set.compared_by)
    arguments.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
