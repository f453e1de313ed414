"""The `together` source: what a regression expects who has those plays to have too."""

import math
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.similar import similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import Companions, ItemKeys
from signals.bundle_facts import BundleFacts
from signals.decay import recency_weights
from signals.item_to_item import pair_scores

RECENCY_SCALE = 20.0
"""Plays after which a play counts 1/e: the best alone on MovieLens-1M's validation plays."""


class TogetherSource:
    """Answers from one bundle's companions."""

    def __init__(self, companions: Companions, items: ItemKeys, facts: BundleFacts) -> None:
        self._companions = companions
        self._items = items
        self._recency_scale = math.inf if facts.order == "none" else RECENCY_SCALE

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Map what this source reads of a verified bundle."""
        return cls(Companions.open(directory), ItemKeys.open(directory), facts)

    def generate(self, query: Query) -> Candidates:
        """Return the unseen items that those who played the same have."""
        return similar_candidates(query, self._scored, self._items)

    def _scored(
        self, plays: NDArray[np.uint32], most: int | None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        fades = recency_weights(len(plays), self._recency_scale)[None]
        return pair_scores(self._companions, plays, fades, most)
