"""The fallback ladder: which rung an answer stands on.

personal -> recent items -> trending in the market and genre -> trending in the market -> trending
anywhere -> the bundle's popularity list. Nothing climbs down on purpose: every source is asked at
once, and what is missing at the top leaves room for what lies below.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.values import Merged, Slate, SourceAnswer, Subject
from signals.tiers import Tier


def tier_of(
    slate: Slate, ranked: Merged, answers: Sequence[SourceAnswer], subject: Subject
) -> Tier:
    """Return the best rung that an item of the slate stands on."""
    places = slate.places[slate.places >= 0]
    best = Tier.POPULARITY
    for answer in answers:
        rung = _rung(answer, subject)
        if rung < best and _has_proposed(answer.source, places, ranked):
            best = rung
    return best


def _has_proposed(source: str, places: NDArray[np.intp], ranked: Merged) -> bool:
    column = ranked.columns.get(source)
    return column is not None and bool(column.ranks.take(places).any())


def _rung(answer: SourceAnswer, subject: Subject) -> Tier:
    """Return what a source says of itself; of a stranger's taste nobody knows but the seeds."""
    if answer.tier is Tier.PERSONAL and not subject.is_known:
        return Tier.RECENT_ITEMS
    return answer.tier
