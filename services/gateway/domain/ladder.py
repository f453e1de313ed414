"""The fallback ladder: which rung an answer stands on.

personal -> recent items -> trending in the market and genre -> trending in the market -> trending
anywhere -> the bundle's popularity list. Nothing climbs down on purpose: every source is asked at
once, and what is missing at the top leaves room for what lies below.
"""

from collections.abc import Sequence

from services.gateway.domain.values import Merged, Slate, SourceAnswer, Subject
from signals.tiers import Tier


def tier_of(
    slate: Slate, ranked: Merged, answers: Sequence[SourceAnswer], subject: Subject
) -> Tier:
    """Return the best rung that an item of the slate stands on."""
    places = slate.places[slate.places >= 0]
    rungs = (
        _rung(answer, subject)
        for answer in answers
        if answer.source in ranked.columns and ranked.columns[answer.source].ranks[places].any()
    )
    return min(rungs, default=Tier.POPULARITY)


def _rung(answer: SourceAnswer, subject: Subject) -> Tier:
    """Return what a source says of itself; of a stranger's taste nobody knows but the seeds."""
    if answer.tier is Tier.PERSONAL and not subject.is_known:
        return Tier.RECENT_ITEMS
    return answer.tier
