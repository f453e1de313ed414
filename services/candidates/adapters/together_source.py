"""The `together` source: what a regression expects who has those plays to have too."""

import math
from pathlib import Path
from typing import Self

from services.candidates.domain.similar import similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import Companions, ItemKeys
from signals.bundle_facts import BundleFacts

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
        return similar_candidates(query, self._companions, self._items, self._recency_scale)
