"""The `similar` source: the neighbour lists of a bundle."""

import math
from pathlib import Path
from typing import Self

from services.candidates.domain.similar import RECENCY_SCALE, similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import ItemKeys, Neighbours
from signals.bundle_facts import BundleFacts


class SimilarSource:
    """Answers from one bundle's neighbour lists."""

    def __init__(self, neighbours: Neighbours, items: ItemKeys, facts: BundleFacts) -> None:
        self._neighbours = neighbours
        self._items = items
        self._recency_scale = math.inf if facts.order == "none" else RECENCY_SCALE

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Map what this source reads of a verified bundle."""
        return cls(Neighbours.open(directory), ItemKeys.open(directory), facts)

    def generate(self, query: Query) -> Candidates:
        """Return the unseen items that tend to follow the user's recent ones."""
        return similar_candidates(query, self._neighbours, self._items, self._recency_scale)
