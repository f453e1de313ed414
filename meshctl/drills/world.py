"""What the drills serve and ask for: a bundle, and slates of its items to start from."""

import random
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from meshctl.train import DEFAULT_SEED, train_with_progress
from meshkit.bundles import open_store, readable
from pipeline.recipe import DEFAULT, Recipe
from pipeline.synth.generate import synthesise_log
from pipeline.synth.settings import SynthSettings
from signals.bundle import ItemKeys, ItemTexts

SYNTHETIC = SynthSettings(users=2_000, items=3_000, days=60, seed=7)
SMALL_SYNTHETIC = SynthSettings(users=400, items=500, days=60, seed=3)
SLATES = 500
SEEDS = 20


@dataclass(frozen=True, slots=True)
class World:
    """A bundle and what is asked of it."""

    bundles: Path
    version: str
    slates: tuple[tuple[str, ...], ...]
    """Seed items, `SEEDS` a request: any bundle has items, whoever its users are."""


def open_world(bundles: Path) -> World:
    """Return the current bundle of a store. Raises BundleError."""
    store = open_store(bundles)
    version = store.current()
    bundle = store.open(version)
    with readable(bundle):
        items = len(ItemKeys.open(bundle.path).keys)
        texts = ItemTexts.open(bundle.path)
    draw = random.Random(1)  # noqa: S311 - the same requests every time
    rows = [draw.sample(range(items), min(SEEDS, items)) for _ in range(SLATES)]
    slates = tuple(tuple(texts.item_id(row) for row in slate) for slate in rows)
    return World(bundles, version, slates)


def train_world(
    directory: Path, *, is_small: bool, console: Console, recipe: Recipe = DEFAULT
) -> World:
    """Make a synthetic world in `directory`, train on it, and return it."""
    log, bundles = directory / "log", directory / "bundles"
    synthesise_log(SMALL_SYNTHETIC if is_small else SYNTHETIC, log, replace=True)
    train_with_progress(
        log, bundles, holdout="none", seed=DEFAULT_SEED, console=console, recipe=recipe
    )
    return open_world(bundles)
