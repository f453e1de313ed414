"""What the ranker is asked, what it looks up, and the port to its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from signals.bundle import (
    Companions,
    Embedding,
    ItemStats,
    ItemTraits,
    Neighbours,
    Successors,
    Transitions,
)
from signals.bundle_facts import BundleFacts


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """What one source said of the candidates."""

    ranks: NDArray[np.uint32]
    """uint32 [c], from 1; 0 where the source did not propose the candidate."""
    scores: NDArray[np.float32]
    """float32 [c], finite; 0 where the source did not propose the candidate."""


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """The candidates of one request; rows belong to the ranker's bundle."""

    rows: NDArray[np.uint32]
    """uint32 [c], each once."""
    sources: Mapping[str, SourceColumn]
    """By source name; a source that did not answer is absent."""
    history_rows: NDArray[np.uint32]
    """uint32 [h], newest first."""
    history_ages_s: NDArray[np.float32]
    """float32 [h], seconds; 0 where the log has no times."""


@dataclass(frozen=True, slots=True)
class ItemTables:
    """What features look up, all from one bundle."""

    facts: BundleFacts
    embedding: Embedding
    neighbours: Neighbours
    successors: Successors
    companions: Companions
    transitions: Transitions
    stats: ItemStats
    traits: ItemTraits

    @property
    def n_items(self) -> int:
        """Rows of every table."""
        return len(self.stats.share)


class ScoringModel(Protocol):
    """A trained ranking model."""

    @property
    def scorer(self) -> str:
        """What computes the scores: `forest`, our kernel, or `lightgbm`, LightGBM itself."""
        ...

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the raw score of each row of `features` (float32 [c, f]), float32 [c]."""
        ...
