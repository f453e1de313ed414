"""Bundles of a synthetic world of any size: the trainer's own tables, publisher and verifier."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.growth.worlds import SyntheticLog, synthetic_log
from meshkit.bundles import Bundle, DirectoryStore, FileEntry
from pipeline.cuts import cut_log
from pipeline.embed import embed
from pipeline.event_log import EventLog, Events
from pipeline.histories import histories_of

# `build_tables` makes all neighbour lists in one piece, which takes 25 GB at a million items.
from pipeline.item_regressions import companions, successors
from pipeline.recipe import DEFAULT
from pipeline.tables import (
    Tables,
    _facts,
    _most_listeners_first,
    _stats,
)
from pipeline.train import Course, Report, publish
from pipeline.transitions import LIST_LENGTH, neighbour_lists, transitions
from pipeline.trending_counts import count_trends
from signals.bundle import IndexedItems, Neighbours, Popularity

SEED = 7
MODEL_ITEMS = 3_000
"""Of the world that the ranker is trained on, one for all sizes: its trees know no catalogue."""
NO_REPORT = Report("none: made to be measured", 0, (), ("a synthetic world; quality says nothing",))

T = TypeVar("T")


class Steps:
    """Times the steps of a training; shows nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Time the block."""
        began_s = monotonic()
        yield
        self.seconds[description] = monotonic() - began_s

    def track(self, things: Sequence[T], _description: str) -> Iterable[T]:
        """Return `things`."""
        return things


@dataclass(frozen=True, slots=True)
class Grown:
    """A published bundle and what making it took."""

    bundle: Bundle
    store: Path
    seconds: Mapping[str, float]


def train_model(items: int = MODEL_ITEMS) -> str:
    """Return the text of a ranker trained on a synthetic world, as `meshctl train` does it."""
    log = synthetic_log(items, seed=SEED).log
    return Course(log, cut_log(log, seed=SEED), SEED, Steps()).train_ranker().model_text


def grow(items: int, model_text: str, directory: Path) -> Grown:
    """Publish a bundle of `items` items in a store of its own in `directory`."""
    steps = Steps()
    with steps.step("synthesise"):
        world = synthetic_log(items, seed=SEED)
    tables = synthetic_tables(world, steps.step)
    del world
    store = DirectoryStore(directory / f"bundles-{items}")
    with steps.step("publish"):
        bundle = publish(store, tables, model_text, NO_REPORT, now=datetime.now(UTC))
    return Grown(bundle, store.root, steps.seconds)


def synthetic_tables(
    world: SyntheticLog, step: Callable[[str], AbstractContextManager[None]]
) -> Tables:
    """Return what `pipeline.tables.build_tables` does, neighbour lists country by country."""
    log = world.log
    events, n_items = log.events, len(log.catalogue)
    as_of_s = int(events.times_s.max()) + 1
    with step("vectors"):
        embedding = embed(events, len(log.user_keys), n_items, seed=SEED)
    with step("neighbours"):
        neighbours = _neighbours(world)
    with step("regressions"):
        followers = successors(
            events, n_items, order=log.order, most=DEFAULT.next_items, ridge=DEFAULT.next_ridge
        )
        near = transitions(events, n_items, order=log.order, most=DEFAULT.next_items)
        together = companions(
            events, n_items, most=DEFAULT.together_items, ridge=DEFAULT.together_ridge
        )
    with step("other tables"):
        return Tables(
            facts=_facts(events, log, as_of_s, DEFAULT.sources),
            keys=log.catalogue.keys,
            texts=log.catalogue.texts,
            traits=log.catalogue.traits,
            genre_names=log.catalogue.genre_names,
            rights=log.catalogue.rights,
            embedding=embedding,
            indexed=IndexedItems(np.arange(n_items, dtype=np.uint32)),
            neighbours=neighbours,
            successors=followers,
            companions=together,
            transitions=near,
            popularity=Popularity(_most_listeners_first(events, n_items)),
            stats=_stats(events, n_items, as_of_s),
            histories=histories_of(events, log.user_keys),
            trends=count_trends(
                events, log.catalogue.traits.genres, order=log.order, as_of_s=as_of_s
            ),
        )


def _neighbours(world: SyntheticLog) -> Neighbours:
    """Return the lists of the whole log: no play follows one of another country."""
    log = world.log
    rows = np.zeros((len(world.country), LIST_LENGTH), dtype=np.uint32)
    scores = np.zeros((len(world.country), LIST_LENGTH), dtype=np.float32)
    for country in range(int(world.country.max()) + 1):
        own = np.flatnonzero(world.country == country).astype(np.uint32)
        found = neighbour_lists(_events_of(log, own), len(own), order=log.order)
        rows[own] = np.where(found.scores > 0, own[found.rows], 0)
        scores[own] = found.scores
    return Neighbours(rows, scores)


def _events_of(log: EventLog, own: NDArray[np.uint32]) -> Events:
    """Return the plays of the items `own` (rows, ascending), rows counted among them."""
    place = np.full(len(log.catalogue), -1, dtype=np.int64)
    place[own] = np.arange(len(own))
    events = log.events.where(place[log.events.rows] >= 0)
    rows = place[events.rows].astype(np.uint32)
    return Events(events.users, rows, events.times_s, events.markets)


GROUPS: Mapping[str, tuple[str, ...]] = {
    "index": ("annoy",),
    "vectors": ("Embedding", "IndexedItems"),
    "neighbour lists": ("Neighbours",),
    "regressions": ("Successors", "Companions", "Transitions"),
    "histories": ("Histories",),
    "texts": ("ItemTexts",),
    "model": ("ranker",),
}
"""Beginnings of file names; what is in no group is "other"."""


def bytes_by_group(files: Mapping[str, FileEntry]) -> dict[str, int]:
    """Return the size of each group of a bundle's files, and of all."""
    sizes = dict.fromkeys([*GROUPS, "other"], 0)
    for name, entry in files.items():
        sizes[_group_of(name)] += entry.size
    return {**sizes, "all": sum(sizes.values())}


def _group_of(name: str) -> str:
    owners = [group for group, starts in GROUPS.items() if name.startswith(starts)]
    return owners[0] if owners else "other"
