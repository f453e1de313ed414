"""Trending: what many play now, in the request's market and the user's genres."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.candidates.domain.trending import (
    Segment,
    TrendingSnapshot,
    blend,
    segments_for,
    tier_of,
)
from services.candidates.domain.unseen import is_unseen
from services.candidates.domain.values import Candidates, Query
from signals.bundle import NO_CODE, ItemKeys, ItemTraits
from signals.decay import recency_weights

GENRE_PLAYS = 50
"""Plays that the user's genres are read from."""
GENRE_SCALE = 20.0
"""Plays after which one counts 1/e for the user's genres."""
BLENDED_ITEMS = 4_000
"""Items that a blend may return: the tops of two full segments."""
MAX_AGE_S = 300.0
"""Age beyond which trending is stale unless configured: ten missed refreshes."""


class Trends(Protocol):
    """Holds what trends, refreshed behind its back."""

    def snapshot(self) -> TrendingSnapshot:
        """Return the newest snapshot without waiting."""
        ...

    def want(self, segments: Sequence[Segment]) -> None:
        """Note that requests need `segments`."""
        ...

    def age_s(self) -> float | None:
        """Return the seconds since the store was last read; None: never yet."""
        ...


def leading_genres(query: Query, traits: ItemTraits, genre_names: Sequence[str]) -> list[str]:
    """Return the user's genres by recency weight, greatest first, ties by code."""
    played = traits.genres[query.history_rows[:GENRE_PLAYS]]
    weights = np.repeat(recency_weights(len(played), GENRE_SCALE), played.shape[1])
    codes, inverse = np.unique(played, return_inverse=True)
    totals = np.bincount(inverse.ravel(), weights=weights, minlength=len(codes))
    order = np.lexsort((codes, -totals))
    return [genre_names[codes[place]] for place in order if codes[place] != NO_CODE]


def trending_candidates(
    query: Query,
    trends: Trends,
    items: ItemKeys,
    traits: ItemTraits,
    genre_names: Sequence[str],
    max_age_s: float = MAX_AGE_S,
) -> Candidates:
    """Return the unseen items that trend most for the query's market and the user's genres.

    Items that trend but are not in the bundle are left out. Beyond `max_age_s` the answer is stale.
    """
    genres = leading_genres(query, traits, genre_names)
    trends.want(segments_for(query.market, genres))
    age_s = trends.age_s()
    snapshot = trends.snapshot()
    keys, scores = blend(snapshot, query.market, genres, BLENDED_ITEMS)
    found = items.rows_of_keys(keys)
    rows, scores = found[found >= 0].astype(np.uint32), scores[found >= 0]
    places = np.flatnonzero(is_unseen(query, rows, items.keys))[: query.limit]
    return Candidates(
        rows[places],
        scores[places],
        data_age_s=age_s,
        is_stale=age_s is not None and age_s > max_age_s,
        tier=tier_of(snapshot, query.market, genres),
    )
