"""Trending: what many play now, in the request's market and the user's genres."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.candidates.domain.trending import Segment, TrendingSnapshot
from services.candidates.domain.trending_blend import Blends
from services.candidates.domain.unseen import first_unseen
from services.candidates.domain.values import Candidates, Query
from signals.bundle import NO_CODE, ItemTraits
from signals.decay import recency_weights

GENRE_PLAYS = 50
"""Plays that the user's genres are read from."""
GENRE_SCALE = 20.0
"""Plays after which one counts 1/e for the user's genres."""
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
    is_genre = played != NO_CODE
    weights = np.repeat(recency_weights(len(played), GENRE_SCALE), is_genre.sum(axis=1))
    totals = np.bincount(played[is_genre], weights=weights)
    order = np.argsort(-totals, kind="stable")[: np.count_nonzero(totals)]
    return [genre_names[code] for code in order.tolist()]


def trending_candidates(
    query: Query,
    trends: Trends,
    blends: Blends,
    traits: ItemTraits,
    genre_names: Sequence[str],
    max_age_s: float = MAX_AGE_S,
) -> Candidates:
    """Return the unseen items that trend most for the query's market and the user's genres.

    Items that trend but are not in the bundle are left out. Beyond `max_age_s` the answer is stale.
    """
    age_s = trends.age_s()
    genres = leading_genres(query, traits, genre_names)
    blend = blends.of(trends.snapshot(), query.market, genres)
    trends.want(blend.segments)
    places = first_unseen(query, blend.rows, blends.items.keys)
    return Candidates(
        blend.rows[places],
        blend.scores[places],
        data_age_s=age_s,
        is_stale=age_s is not None and age_s > max_age_s,
        tier=blend.tier,
    )
