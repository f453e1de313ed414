"""The `trending` source: a snapshot of what DynamoDB counts."""

from pathlib import Path
from typing import Self

from meshkit.errors import DependencyUnavailable
from services.candidates.domain.trending_blend import Blends
from services.candidates.domain.trending_candidates import MAX_AGE_S, Trends, trending_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import GenreNames, ItemKeys, ItemTraits


class TrendingSource:
    """Answers from a background snapshot, in rows of one bundle."""

    def __init__(
        self,
        trends: Trends,
        items: ItemKeys,
        traits: ItemTraits,
        genre_names: GenreNames,
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._trends = trends
        self._blends = Blends(items)
        self._traits = traits
        self._genre_names = genre_names.names()
        self._max_age_s = max_age_s

    @classmethod
    def open(cls, directory: Path, trends: Trends, max_age_s: float = MAX_AGE_S) -> Self:
        """Map what this source reads of a verified bundle."""
        return cls(
            trends,
            ItemKeys.open(directory),
            ItemTraits.open(directory),
            GenreNames.open(directory),
            max_age_s,
        )

    def generate(self, query: Query) -> Candidates:
        """Return the unseen items that trend. Raises DependencyUnavailable before a first read."""
        found = trending_candidates(
            query, self._trends, self._blends, self._traits, self._genre_names, self._max_age_s
        )
        # Not before: what is asked for now is what the first read should read, and a source that
        # is warmed up while the store is down has compiled its loops when the store is back.
        if found.data_age_s is None:
            raise DependencyUnavailable("trending has not been read from DynamoDB yet")
        return found
