"""The `similar` source: the neighbour lists of a bundle."""

import math
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.similar import similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import ItemKeys, Neighbours
from signals.bundle_facts import BundleFacts
from signals.decay import recency_weights
from signals.item_to_item import neighbour_scores

RECENCY_SCALE = 10.0
"""Plays after which a play counts 1/e: the 50th weighs 7e-3 of the newest."""


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
        return similar_candidates(query, self._scored, self._items)

    def _scored(
        self, plays: NDArray[np.uint32], most: int | None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        weights = recency_weights(len(plays), self._recency_scale)
        return neighbour_scores(self._neighbours, plays, weights, most)
