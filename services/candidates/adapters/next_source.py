"""The `next` source: what a regression expects to be played next."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.similar import similar_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bundle import ItemKeys, Successors
from signals.bundle_facts import BundleFacts
from signals.item_to_item import pair_scores


class NextSource:
    """Answers from one bundle's successors."""

    def __init__(self, successors: Successors, items: ItemKeys, facts: BundleFacts) -> None:
        self._successors = successors
        self._items = items
        self._has_order = facts.order != "none"

    @classmethod
    def open(cls, directory: Path, facts: BundleFacts) -> Self:
        """Map what this source reads of a verified bundle."""
        return cls(Successors.open(directory), ItemKeys.open(directory), facts)

    def generate(self, query: Query) -> Candidates:
        """Return the unseen items expected to be played next."""
        return similar_candidates(query, self._scored, self._items)

    def _scored(
        self, plays: NDArray[np.uint32], most: int | None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        fades = self._successors.fades(len(plays))
        if not self._has_order:
            fades = np.ones_like(fades)
        return pair_scores(self._successors, plays, fades, most)
