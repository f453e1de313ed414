"""The fallback ladder: the answer says the best rung that it stands on."""

from dataclasses import replace

import pytest

from services.gateway.domain.ladder import tier_of
from services.gateway.domain.merge import merge
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import SourceAnswer
from signals.tiers import Tier
from tests.unit.gateway_world import answer_of, item_rules, rows_of, subject_of

RULES = item_rules(30)


def said(source: str, rows: list[int], tier: Tier) -> SourceAnswer:
    return replace(answer_of(source, rows), tier=tier)


ANN = said("ann", [1, 2], Tier.PERSONAL)
SIMILAR = said("similar", [3], Tier.RECENT_ITEMS)
IN_GENRE = said("trending", [4], Tier.TRENDING_MARKET_GENRE)
IN_MARKET = said("trending", [4], Tier.TRENDING_MARKET)
ANYWHERE = said("trending", [4], Tier.TRENDING_GLOBAL)


def tier(*answers: SourceAnswer, page_size: int = 10, is_known: bool = True) -> Tier:
    subject = replace(subject_of(RULES, played=[0]), is_known=is_known)
    ranked = merge(answers)
    selected = select(ranked, page_size, RULES)
    slate = fill(ranked, selected, page_size, subject, RULES, rows_of(range(30)))
    return tier_of(slate, ranked, answers, subject)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((ANN, SIMILAR, IN_GENRE), Tier.PERSONAL),
        ((SIMILAR, IN_GENRE), Tier.RECENT_ITEMS),
        ((IN_GENRE,), Tier.TRENDING_MARKET_GENRE),
        ((IN_MARKET,), Tier.TRENDING_MARKET),
        ((ANYWHERE,), Tier.TRENDING_GLOBAL),
        ((), Tier.POPULARITY),
    ],
)
def test_each_rung_that_breaks_leaves_the_next(
    answers: tuple[SourceAnswer, ...], expected: Tier
) -> None:
    assert tier(*answers) is expected


def test_a_strangers_seeds_are_recent_items_and_no_taste() -> None:
    assert tier(ANN, IN_MARKET, is_known=False) is Tier.RECENT_ITEMS


def test_a_source_without_an_item_on_the_slate_does_not_count() -> None:
    many = said("trending", list(range(10, 20)), Tier.TRENDING_GLOBAL)
    one = said("ann", [25, 10], Tier.PERSONAL)

    assert tier(said("ann", [], Tier.PERSONAL), many) is Tier.TRENDING_GLOBAL
    assert tier(many, one, page_size=1) is Tier.PERSONAL  # 10 is proposed by both
    assert tier(many, said("ann", [25, 26], Tier.PERSONAL), page_size=1) is Tier.TRENDING_GLOBAL
