"""A recommendation as Python values.

Every value is frozen and holds no protobuf, so that it can be kept, compared and sent on.
"""

from dataclasses import dataclass
from enum import Enum


class SourceStatus(Enum):
    """What one source's answer was worth.

    OK: in time, from fresh data. TIMEOUT: too late. ERROR: failed or out of reach. SHED: refused
    to protect itself. STALE: used, but older than its limit. DISABLED: switched off by an
    operator. UNSPECIFIED: a status newer than this client.
    """

    UNSPECIFIED = 0
    OK = 1
    TIMEOUT = 2
    ERROR = 3
    SHED = 4
    STALE = 5
    DISABLED = 6

    @classmethod
    def _missing_(cls, value: object) -> "SourceStatus":  # noqa: ARG003  enum calls it so
        return cls.UNSPECIFIED


class RankedBy(Enum):
    """What ordered the slate.

    MODEL: the bundle's model. FALLBACK: merge order. UNSPECIFIED: newer than this client.
    """

    UNSPECIFIED = 0
    MODEL = 1
    FALLBACK = 2

    @classmethod
    def _missing_(cls, value: object) -> "RankedBy":  # noqa: ARG003  enum calls it so
        return cls.UNSPECIFIED


class Tier(Enum):
    """The best rung of the fallback ladder that an item of the slate stands on.

    PERSONAL: the user's taste. RECENT_ITEMS: items like those just played. TRENDING_MARKET_GENRE,
    TRENDING_MARKET, TRENDING_GLOBAL: what many play now. POPULARITY: the bundle's list, all that
    was left. UNSPECIFIED: newer than this client, or a gateway older than it.
    """

    UNSPECIFIED = 0
    PERSONAL = 1
    RECENT_ITEMS = 2
    TRENDING_MARKET_GENRE = 3
    TRENDING_MARKET = 4
    TRENDING_GLOBAL = 5
    POPULARITY = 6

    @classmethod
    def _missing_(cls, value: object) -> "Tier":  # noqa: ARG003  enum calls it so
        return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Provenance:
    """One source's word on one item: its rank there, from 1, and its score there."""

    source: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item of a slate.

    `score` compares within one slate only. `sources` holds every source that proposed the item,
    and is empty when the popularity list filled it in. `title` and `artist` may be empty.
    """

    item_id: str
    score: float
    sources: tuple[Provenance, ...]
    title: str
    artist: str


@dataclass(frozen=True, slots=True)
class SourceCoverage:
    """One source's part in an answer.

    `latency_s` is None when the source was not asked; `data_age_s` is None when its data are the
    bundle itself or when it gave no answer. `candidates` counts what it proposed. `hedged` is true
    when it was asked a second time because the first call was slow.
    """

    source: str
    status: SourceStatus
    latency_s: float | None
    candidates: int
    data_age_s: float | None
    hedged: bool = False


@dataclass(frozen=True, slots=True)
class HistoryCoverage:
    """The stored history's part in an answer.

    Other than OK, the answer stands on the request's seed items alone. `latency_s` is None when
    nothing had to be asked. UNSPECIFIED: a gateway too old to say.
    """

    status: SourceStatus = SourceStatus.UNSPECIFIED
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What took part in an answer.

    `ranker_latency_s` is None when the ranker was not asked. `degraded` is true when a part was
    missing or the slate is shorter than asked. `filled_from_popularity` counts items at the end of
    the slate; `ignored_item_ids` counts seed and exclude ids that the bundle does not know.
    `quality` is the share of its usual candidate counts that the gateway asked for, less than 1
    under load; None from a gateway too old to say.
    """

    sources: tuple[SourceCoverage, ...]
    ranked_by: RankedBy
    ranker_latency_s: float | None
    degraded: bool
    filled_from_popularity: int
    ignored_item_ids: int
    tier: Tier = Tier.UNSPECIFIED
    quality: float | None = None
    history: HistoryCoverage = HistoryCoverage()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One slate, best item first, and what it is worth.

    `recommendation_id` identifies this answer in traces and logs; `bundle_version` is the bundle
    that every part of it came from.
    """

    recommendation_id: str
    bundle_version: str
    items: tuple[RecommendedItem, ...]
    coverage: Coverage
