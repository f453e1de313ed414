"""A small synthetic world: its log, and training on it without progress bars."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from meshkit.bundles import open_store
from pipeline.synth.generate import synthesise_log
from pipeline.synth.settings import SynthSettings
from pipeline.train import Holdout, Trained, train

T = TypeVar("T")

WORLD = SynthSettings(users=300, items=400, days=60, seed=3, events_per_user=25)
NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Quiet:
    """Training progress that nobody sees."""

    def step(self, _description: str) -> AbstractContextManager[None]:
        return nullcontext()

    def track(self, things: Sequence[T], _description: str) -> Sequence[T]:
        return things


@dataclass(frozen=True, slots=True)
class TrainedWorld:
    """A log, and what training on it published."""

    log: Path
    bundles: Path
    trained: Trained


def write_world(out: Path) -> Path:
    """Write the world's log directory; the same bytes every time."""
    synthesise_log(WORLD, out)
    return out


def train_on(log: Path, bundles: Path, *, holdout: Holdout = "none", seed: int = 1) -> Trained:
    """Train as `meshctl train` does."""
    with warnings.catch_warnings():
        # implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
        warnings.filterwarnings("ignore", module="implicit")
        store = open_store(bundles)
        return train(log, store, holdout=holdout, seed=seed, now=NOW, progress=Quiet())
