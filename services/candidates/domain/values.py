"""What a source is asked, and what it answers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from signals.tiers import Tier


@dataclass(frozen=True, slots=True)
class Query:
    """One request to one source; rows belong to the source's bundle."""

    limit: int
    """Candidates wanted at most, >= 1."""
    history_rows: NDArray[np.uint32]
    """uint32 [h], newest first; empty for an anonymous caller without seed items."""
    seen_filter: bytes
    """Bloom filter (`signals.bloom`) of the keys of everything the user ever had."""
    exclude_rows: NDArray[np.uint32]
    """uint32 [x], never to be answered, in any order."""
    market: str
    """ISO 3166-1 alpha-2, or empty."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A source's answer: parallel columns, best first, each row once."""

    rows: NDArray[np.uint32]
    scores: NDArray[np.float32]
    """Finite, not increasing; comparable within this answer only."""
    data_age_s: float | None = None
    """Age of the data behind the answer in seconds; None: the bundle itself."""
    is_stale: bool = False
    """The age is beyond the source's own limit."""
    tier: Tier = Tier.PERSONAL
    """The best rung of the fallback ladder that a candidate stands on."""


class CandidateSource(Protocol):
    """Proposes items for one request."""

    def generate(self, query: Query) -> Candidates:
        """Return up to `query.limit` unseen items, best first."""
        ...


NO_CANDIDATES = Candidates(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32))
