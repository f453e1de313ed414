"""What the gateway is asked, what it learns on the way, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from signals.tiers import Tier

Rows = NDArray[np.uint32]
Scores = NDArray[np.float32]


class SourceStatus(Enum):
    """What one source's answer was worth."""

    OK = auto()
    TIMEOUT = auto()
    ERROR = auto()
    SHED = auto()
    STALE = auto()
    DISABLED = auto()


class RankedBy(Enum):
    """What ordered the slate."""

    MODEL = auto()
    FALLBACK = auto()


@dataclass(frozen=True, slots=True)
class Ask:
    """A valid request."""

    user_id: str
    """Empty for an anonymous caller."""
    page_size: int
    market: str
    """ISO 3166-1 alpha-2, or empty."""
    seed_item_ids: tuple[str, ...]
    """What was just played, newest last."""
    exclude_item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What a user played, as every source and the ranker see it."""

    rows: Rows
    """uint32 [h], newest first, at most `signals.limits.MAX_HISTORY_PLAYS`."""
    ages_s: Scores
    """float32 [h], seconds, >= 0."""
    seen_filter: bytes
    """Bloom filter (`signals.bloom`) of the keys of everything the user ever had."""


@dataclass(frozen=True, slots=True)
class HistoryReading:
    """What came of reading a user's stored plays."""

    status: SourceStatus
    """OK also where nothing is stored; never STALE or DISABLED."""
    latency_s: float | None
    """Time until they were there or given up; None: nothing had to be asked."""


HISTORY_STATUSES = (
    SourceStatus.OK,
    SourceStatus.TIMEOUT,
    SourceStatus.ERROR,
    SourceStatus.SHED,
)
"""What `HistoryReading.status` may be."""

NOT_WAITED_FOR = HistoryReading(SourceStatus.OK, latency_s=None)
"""Of a caller without a name, and of histories in the bundle."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a request is for, in rows of the pinned bundle."""

    history: History
    exclude_rows: Rows
    market: str
    ignored_item_ids: int
    """Seed and exclude ids that the bundle does not know."""
    is_known: bool = True
    """Plays of this user are stored; without any, only seed items are personal."""


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """One source's answer, or why there is none."""

    source: str
    status: SourceStatus
    rows: Rows
    """uint32 [k], best first, each once; empty without an answer."""
    scores: Scores
    """float32 [k], finite."""
    latency_s: float | None = None
    data_age_s: float | None = None
    has_moved: bool = False
    """It no longer holds the version that it was asked for."""
    tier: Tier = Tier.PERSONAL
    """The best rung that its candidates stand on, as it says."""
    is_hedged: bool = False
    """It was asked a second time because the first call was slow."""

    @property
    def has_answered(self) -> bool:
        """Its candidates, if any, were used."""
        return self.status in (SourceStatus.OK, SourceStatus.STALE)


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """What one source said of the merged candidates."""

    ranks: Rows
    """uint32 [c], from 1; 0 where the source did not propose the candidate."""
    scores: Scores
    """float32 [c]; 0 where the source did not propose the candidate."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Candidates of all sources, each once, in merge order."""

    rows: Rows
    scores: Scores
    """float32 [c], not increasing: the merge score, or the model's."""
    columns: Mapping[str, SourceColumn]
    """By source name, for every source that proposed anything."""

    def take(self, places: NDArray[np.intp] | NDArray[np.bool_]) -> "Merged":
        """Return the candidates at `places` (indices or a mask), in that order."""
        indices = places.nonzero()[0] if places.dtype == np.bool_ else places.astype(np.intp)
        return self.reordered(indices, self.scores.take(indices))

    def reordered(self, places: NDArray[np.intp], scores: Scores) -> "Merged":
        """Return the candidates at `places` with other scores, parallel to `places`."""
        columns = {
            name: SourceColumn(column.ranks.take(places), column.scores.take(places))
            for name, column in self.columns.items()
        }
        return Merged(self.rows.take(places), scores, columns)

    def head(self, limit: int) -> "Merged":
        """Return the first `limit` candidates."""
        if len(self.rows) <= limit:
            return self
        columns = {
            name: SourceColumn(column.ranks[:limit], column.scores[:limit])
            for name, column in self.columns.items()
        }
        return Merged(self.rows[:limit], self.scores[:limit], columns)


@dataclass(frozen=True, slots=True)
class Removed:
    """What one filter took out."""

    filter_name: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class RankerAnswer:
    """The ranker's scores, or None and why."""

    scores: Scores | None
    failed: bool
    """Asked, or meant to be asked, and no scores came."""
    latency_s: float | None = None
    has_moved: bool = False
    """It no longer holds the version that it was asked for."""


@dataclass(frozen=True, slots=True)
class Slate:
    """The items of an answer, best first."""

    rows: Rows
    scores: Scores
    places: NDArray[np.intp]
    """intp [m]; place of each item in the ranked candidates, -1 for one that filled the page."""
    not_selected: Rows
    """Candidates that were ranked and did not make the page, in ranked order."""

    @property
    def filled(self) -> int:
        """Items that came from the popularity list."""
        return int(np.count_nonzero(self.places < 0))


@dataclass(frozen=True, slots=True)
class Answer:
    """A slate, what it is worth, and everything that did not make it."""

    bundle_version: str
    subject: Subject
    sources: tuple[SourceAnswer, ...]
    """Every configured source, in configuration order."""
    removed: tuple[Removed, ...]
    """By filter, in the order that they ran."""
    ranked: Merged
    """What was ranked, in ranked order."""
    ranker: RankerAnswer
    slate: Slate
    tier: Tier
    """The best rung that an item of the slate stands on."""
    quality: float
    """Share of the configured candidate counts that was asked for, in (0, 1]."""
    is_short: bool
    """Fewer items than the page asked for."""
    history: HistoryReading = NOT_WAITED_FOR

    @property
    def ranked_by(self) -> RankedBy:
        """What ordered the slate."""
        return RankedBy.FALLBACK if self.ranker.scores is None else RankedBy.MODEL

    @property
    def version_moved(self) -> bool:
        """A leaf no longer holds this answer's version: another version may answer in full."""
        return self.ranker.has_moved or any(source.has_moved for source in self.sources)

    @property
    def waited_in_vain_s(self) -> float:
        """Seconds spent waiting for parts that failed while others answered.

        0 for sources when none answered at all: then it may well be this process that is slow.
        """
        answered = [source.latency_s or 0.0 for source in self.sources if source.has_answered]
        slowest_s = max((source.latency_s or 0.0 for source in self.sources), default=0.0)
        for_sources_s = slowest_s - max(answered) if answered else 0.0
        for_ranker_s = (self.ranker.latency_s or 0.0) if self.ranker.failed else 0.0
        for_history_s = 0.0 if self.has_history else (self.history.latency_s or 0.0)
        return for_history_s + for_sources_s + for_ranker_s

    @property
    def has_history(self) -> bool:
        """What is stored of the user was read, be it nothing."""
        return self.history.status is SourceStatus.OK

    @property
    def is_degraded(self) -> bool:
        """The history or a source was not OK, the ranker failed, or the page is short."""
        every_source_ok = all(source.status is SourceStatus.OK for source in self.sources)
        is_whole = every_source_ok and self.has_history and not self.ranker.failed
        return not is_whole or self.is_short
