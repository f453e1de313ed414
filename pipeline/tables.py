"""Everything that a bundle looks up, built from the events up to one moment."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import distinct, stack
from pipeline.embed import CONFIDENCE, DIMENSION, REGULARIZATION, embed
from pipeline.event_log import EventLog, Events
from pipeline.histories import histories_of
from pipeline.item_regressions import companions, successors
from pipeline.recipe import DEFAULT, Recipe
from pipeline.transitions import neighbour_lists, transitions
from pipeline.trending_counts import count_trends
from services.candidates.adapters.annoy_index import METRIC, write_annoy_index
from services.ranker.domain.features import feature_names
from signals.bundle import (
    ArrayView,
    Companions,
    Embedding,
    GenreNames,
    Histories,
    IndexedItems,
    ItemKeys,
    ItemStats,
    ItemTexts,
    ItemTraits,
    MarketRights,
    Neighbours,
    Popularity,
    Successors,
    Transitions,
    TrendCounts,
)
from signals.bundle_facts import BundleFacts

LATE_PLAYS = 5
"""Newest plays of a user that `late_share` counts."""
RECENT_WINDOW_S = 7 * 86_400
"""The newest part of a log that `recent_share` counts: one of every weekday."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A bundle without its model; every view has the same rows."""

    facts: BundleFacts
    keys: ItemKeys
    texts: ItemTexts
    traits: ItemTraits
    genre_names: GenreNames
    rights: MarketRights
    embedding: Embedding
    indexed: IndexedItems
    neighbours: Neighbours
    successors: Successors
    companions: Companions
    transitions: Transitions
    popularity: Popularity
    stats: ItemStats
    histories: Histories
    trends: TrendCounts

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Map the tables of a verified bundle. Raises OSError or ValueError."""
        return cls(
            facts=facts,
            keys=ItemKeys.open(directory),
            texts=ItemTexts.open(directory),
            traits=ItemTraits.open(directory),
            genre_names=GenreNames.open(directory),
            rights=MarketRights.open(directory),
            embedding=Embedding.open(directory),
            indexed=IndexedItems.open(directory),
            neighbours=Neighbours.open(directory),
            successors=Successors.open(directory),
            companions=Companions.open(directory),
            transitions=Transitions.open(directory),
            popularity=Popularity.open(directory),
            stats=ItemStats.open(directory),
            histories=Histories.open(directory),
            trends=TrendCounts.open(directory),
        )

    def write(self, directory: Path) -> None:
        """Write every view and the nearest-neighbour index into `directory`."""
        for view in self._views():
            view.write(directory)
        write_annoy_index(directory, self.embedding.vectors, self.indexed.rows)

    def _views(self) -> tuple[ArrayView, ...]:
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, ArrayView))


def build_tables(
    events: Events,
    log: EventLog,
    *,
    as_of_s: int,
    seed: int,
    recipe: Recipe = DEFAULT,
) -> Tables:
    """Return the tables of `log`'s catalogue as they are after `events`, a part of its events.

    Rows are the catalogue's, whatever the part: an item that nobody has played yet has no vector,
    no neighbours and the last places in popularity. Of
    the recipe sources and regressions are heeded.
    """
    catalogue = log.catalogue
    n_items = len(catalogue)
    embedding = embed(events, len(log.user_keys), n_items, seed=seed)
    played = np.bincount(events.rows, minlength=n_items) > 0
    embedding.vectors[~played] = 0
    return Tables(
        facts=_facts(events, log, as_of_s, recipe.sources),
        keys=catalogue.keys,
        texts=catalogue.texts,
        traits=catalogue.traits,
        genre_names=catalogue.genre_names,
        rights=catalogue.rights,
        embedding=embedding,
        indexed=IndexedItems(np.flatnonzero(played).astype(np.uint32)),
        neighbours=neighbour_lists(events, n_items, order=log.order),
        successors=successors(
            events, n_items, order=log.order, most=recipe.next_items, ridge=recipe.next_ridge
        ),
        companions=companions(
            events,
            n_items,
            most=recipe.together_items,
            ridge=recipe.together_ridge,
            dropout=recipe.together_dropout,
        ),
        transitions=transitions(events, n_items, order=log.order, most=recipe.next_items),
        popularity=Popularity(_most_listeners_first(events, n_items)),
        stats=_stats(events, n_items, as_of_s),
        histories=histories_of(events, log.user_keys),
        trends=count_trends(events, catalogue.traits.genres, order=log.order, as_of_s=as_of_s),
    )


def _facts(events: Events, log: EventLog, as_of_s: int, sources: tuple[str, ...]) -> BundleFacts:
    return BundleFacts(
        order=log.order,
        as_of_s=as_of_s,
        window_start_s=int(events.times_s.min(initial=as_of_s)),
        recent_window_s=RECENT_WINDOW_S if log.order == "time" else 0,
        items=len(log.catalogue),
        users=len(np.unique(events.users)),
        events=len(events),
        dimension=DIMENSION,
        metric=METRIC,
        als_confidence=CONFIDENCE,
        als_regularization=REGULARIZATION,
        sources=sources,
        features=feature_names(),
    )


def _most_listeners_first(events: Events, n_items: int) -> NDArray[np.uint32]:
    pairs, _ = distinct(stack(events.users, events.rows))
    listeners = np.bincount(pairs[1], minlength=n_items)
    return np.lexsort((np.arange(n_items), -listeners)).astype(np.uint32)


def _stats(events: Events, n_items: int, as_of_s: int) -> ItemStats:
    plays = np.bincount(events.rows, minlength=n_items)
    has_times = events.times_s > 0
    recent = np.bincount(
        events.rows[has_times & (events.times_s > as_of_s - RECENT_WINDOW_S)], minlength=n_items
    )
    rank = np.empty(n_items, dtype=np.float32)
    rank[np.lexsort((np.arange(n_items), -plays))] = np.arange(n_items) / max(1, n_items - 1)
    first_s = np.full(n_items, np.iinfo(np.int64).max)
    np.minimum.at(first_s, events.rows[has_times], events.times_s[has_times])
    return ItemStats(
        share=_share(plays),
        recent_share=_share(recent),
        share_rank=rank,
        first_played_s=np.where(first_s == np.iinfo(np.int64).max, 0, first_s),
        **item_places(events.users, events.rows, n_items),
    )


def item_places(
    users: NDArray[np.integer], rows: NDArray[np.uint32], n_items: int
) -> dict[str, NDArray[np.float32]]:
    """Return where plays of each item stand in their users' histories, as `ItemStats` says.

    `users` and `rows` are parallel, each user's plays together, oldest first.
    """
    starts, ends = (np.searchsorted(users, users, side=side) for side in ("left", "right"))
    before = np.arange(len(users)) - starts
    plays = np.maximum(np.bincount(rows, minlength=n_items), 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float32]:
        return (np.bincount(rows, values, minlength=n_items) / plays).astype(np.float32)

    return {
        "place": mean(before / np.maximum(ends - starts, 1)),
        "depth": mean(np.log1p(before)),
        "late_share": mean((ends - np.arange(len(users)) <= LATE_PLAYS).astype(np.float64)),
    }


def _share(plays: NDArray[np.intp]) -> NDArray[np.float32]:
    return (plays / max(1, int(plays.sum()))).astype(np.float32)
