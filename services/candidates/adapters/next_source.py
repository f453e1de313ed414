"""The `next` source: what a regression expects to be played next."""

import math
from pathlib import Path
from typing import Self

from services.candidates.domain.similar import similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import ItemKeys, Successors
from signals.bundle_facts import BundleFacts

RECENCY_SCALE = 4.0
"""Plays after which a play counts 1/e: the best alone on MovieLens-1M's validation plays."""


class NextSource:
    """Answers from one bundle's successors."""

    def __init__(self, successors: Successors, items: ItemKeys, facts: BundleFacts) -> None:
        self._successors = successors
        self._items = items
        self._recency_scale = math.inf if facts.order == "none" else RECENCY_SCALE

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Map what this source reads of a verified bundle."""
        return cls(Successors.open(directory), ItemKeys.open(directory), facts)

    def generate(self, query: Query) -> Candidates:
        """Return the unseen items expected to be played next."""
        return similar_candidates(query, self._successors, self._items, self._recency_scale)
