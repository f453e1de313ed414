"""What pages are like, whether or not anybody played them: coverage, novelty, popularity, artists.

Novelty is self-information (Zhou et al., "Solving the apparent diversity-accuracy dilemma of
recommender systems", PNAS 2010): -log2 of an item's share of all plays, averaged over what is
shown. Popularity is a percentile, 1 the most played item and 0 the least, so that it can be
compared with the same of what users played by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What pages are judged by; all parallel to the bundle's rows."""

    share: NDArray[np.float32]
    """Plays per play of the log."""
    share_rank: NDArray[np.float32]
    """0 the most played item, 1 the least."""
    artists: NDArray[np.uint32]
    """Code of the artist; an item without a known one has its own."""
    n_plays: int
    """Plays of the log."""


@dataclass(frozen=True, slots=True)
class SlateFacts:
    """Of the pages of one method, one page a user."""

    catalogue_coverage: float
    """Share of the catalogue that stands on any page."""
    novelty_bits: float
    """Mean -log2 of the share of plays of what is shown."""
    popularity: float
    """Mean popularity percentile of what is shown, 1 the most played."""
    popularity_lift: float
    """`popularity` less the mean percentile of what the same users played."""
    artist_share: float
    """Mean over pages of the share of the artist with most places."""
    artist_gini: float
    """Gini coefficient of the places of all artists of the catalogue: 0 even, 1 one has all."""


def slate_facts(
    pages: Sequence[Rows], own_popularity: NDArray[np.float64], items: ItemFacts
) -> SlateFacts:
    """Return the facts of `pages`, parallel to the users' own mean popularity percentiles.

    Users without a history (NaN) are left out of the lift, users with an empty page out of all.
    """
    kept = [place for place, page in enumerate(pages) if len(page)]
    shown = [pages[place] for place in kept]
    if not shown:
        return SlateFacts(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    everything = np.concatenate(shown)
    popularity = np.array([mean_popularity(page, items) for page in shown])
    lifts = popularity - own_popularity[kept]
    known = lifts[np.isfinite(lifts)]
    return SlateFacts(
        catalogue_coverage=len(np.unique(everything)) / len(items.share),
        novelty_bits=float(np.mean([novelty_bits(page, items) for page in shown])),
        popularity=float(popularity.mean()),
        popularity_lift=float(known.mean()) if len(known) else 0.0,
        artist_share=float(np.mean([largest_share(items.artists[page]) for page in shown])),
        artist_gini=gini(artist_places(everything, items.artists)),
    )


def novelty_bits(rows: Rows, items: ItemFacts) -> float:
    """Return the mean self-information of `rows`; an item never played counts as played once."""
    least = 1.0 / max(1, items.n_plays)
    return float(-np.log2(np.maximum(items.share[rows].astype(np.float64), least)).mean())


def mean_popularity(rows: Rows, items: ItemFacts) -> float:
    """Return the mean popularity percentile of `rows`; NaN for none."""
    return float(1.0 - items.share_rank[rows].mean(dtype=np.float64)) if len(rows) else np.nan


def largest_share(codes: NDArray[np.integer]) -> float:
    """Return the share of the most frequent of `codes` (at least one)."""
    return float(np.unique(codes, return_counts=True)[1].max() / len(codes))


def artist_places(rows: Rows, artists: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Return how many places each artist of the catalogue has among `rows`, none included."""
    codes, numbers = np.unique(artists, return_inverse=True)
    return np.bincount(numbers[rows], minlength=len(codes))


def gini(counts: NDArray[np.integer]) -> float:
    """Return the Gini coefficient of `counts` (not all zero): sum of pairwise differences."""
    ordered = np.sort(counts.astype(np.float64))
    n = len(ordered)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * ordered).sum() / (n * ordered.sum()))
