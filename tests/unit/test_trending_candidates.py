"""Trending candidates: what trends, for this market and these genres, and how old it is."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from services.candidates.domain.trending import (
    GLOBAL,
    NO_SNAPSHOT,
    Segment,
    SegmentTop,
    TrendingSnapshot,
)
from services.candidates.domain.trending_blend import Blends
from services.candidates.domain.trending_candidates import (
    GENRE_PLAYS,
    MAX_AGE_S,
    leading_genres,
    trending_candidates,
)
from services.candidates.domain.values import Candidates, Query
from signals.bloom import build_filter
from signals.bundle import NO_CODE, ItemKeys, ItemTraits
from signals.tiers import Tier

GENRES = ("Jazz", "Rock", "Soul")
JAZZ, ROCK, SOUL = range(3)
ITEMS = ItemKeys(np.arange(100, 108, dtype=np.uint64))
UNKNOWN_KEY = 7
GENRE_CODES = (
    (JAZZ,),
    (ROCK,),
    (SOUL, ROCK),
    (JAZZ, ROCK, SOUL),
    (),
    (SOUL,),
    (JAZZ,),
    (ROCK,),
)


def traits() -> ItemTraits:
    genres = np.full((len(GENRE_CODES), 3), NO_CODE, dtype=np.uint16)
    for row, codes in enumerate(GENRE_CODES):
        genres[row, : len(codes)] = codes
    rows = np.arange(len(GENRE_CODES))
    return ItemTraits(
        artists=rows.astype(np.uint32),
        recordings=rows.astype(np.uint32),
        genres=genres,
        released=np.full(len(rows), np.nan, dtype=np.float32),
        rights=np.zeros(len(rows), dtype=np.uint16),
    )


class HeldTrends:
    """Trends that are as they were made, and remember what was wanted."""

    def __init__(self, snapshot: TrendingSnapshot, age_s: float | None = 1.0) -> None:
        self._snapshot = snapshot
        self._age_s = age_s
        self.wanted: list[Segment] = []

    def snapshot(self) -> TrendingSnapshot:
        return self._snapshot

    def want(self, segments: Sequence[Segment]) -> None:
        self.wanted.extend(segments)

    def age_s(self) -> float | None:
        return self._age_s


def rows_of(values: Sequence[int]) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32)


def query(
    history: Sequence[int] = (),
    *,
    limit: int = 10,
    market: str = "",
    excluded: Sequence[int] = (),
    had: Sequence[int] = (),
) -> Query:
    seen_filter = build_filter(ITEMS.keys[list(had)]) if had else b""
    return Query(limit, rows_of(history), seen_filter, rows_of(excluded), market)


def snapshot(**tops: dict[int, float]) -> TrendingSnapshot:
    """Return rankings (item key to score, best first) by "everywhere", a market or a genre."""
    segments = {
        GLOBAL if name == "everywhere" else _segment(name): SegmentTop(
            np.array(list(top), dtype=np.uint64), np.array(list(top.values()), dtype=np.float32)
        )
        for name, top in tops.items()
    }
    return TrendingSnapshot(segments, taken_at_s=0.0)


def _segment(name: str) -> Segment:
    market, is_both, genre = name.partition("_")
    if is_both:
        return Segment(market, genre)
    return Segment(None, name) if name in GENRES else Segment(name)


def ask(trends: HeldTrends, asked: Query) -> Candidates:
    return trending_candidates(asked, trends, Blends(ITEMS), traits(), GENRES)


EVERYWHERE = {104: 8.0, 101: 4.0, 107: 2.0, 100: 1.0}


def test_rows_come_in_the_order_of_the_trend() -> None:
    found = ask(HeldTrends(snapshot(everywhere=EVERYWHERE)), query())

    assert found.rows.dtype == np.uint32
    assert found.rows.tolist() == [4, 1, 7, 0]
    assert found.scores.tolist() == [1.0, 0.5, 0.25, 0.125]


def test_items_that_the_bundle_lacks_are_left_out() -> None:
    trends = HeldTrends(snapshot(everywhere={UNKNOWN_KEY: 9.0, 104: 8.0, 2**64 - 1: 7.0, 101: 4.0}))

    found = ask(trends, query(limit=2))

    assert found.rows.tolist() == [4, 1]


@pytest.mark.parametrize(
    "asked",
    [query(history=[4], limit=2), query(excluded=[4], limit=2), query(had=[4], limit=2)],
    ids=["played", "excluded", "had"],
)
def test_what_was_seen_leaves_room_for_what_was_not(asked: Query) -> None:
    found = ask(HeldTrends(snapshot(everywhere=EVERYWHERE)), asked)

    assert found.rows.tolist() == [1, 7]


def test_the_market_and_the_genres_of_the_history_lead() -> None:
    trends = HeldTrends(snapshot(everywhere=EVERYWHERE, SE={100: 1.0}, Soul={105: 1.0}))

    found = ask(trends, query(history=[5], market="SE", had=[4]))

    assert found.rows.tolist() == [0, 1, 7]
    assert ask(trends, query(history=[2], limit=3)).rows.tolist() == [4, 1, 5]


def test_the_segments_of_a_request_are_wanted() -> None:
    trends = HeldTrends(NO_SNAPSHOT)

    ask(trends, query(history=[2], market="SE"))

    expected = {Segment(where, genre) for where in (None, "SE") for genre in (None, "Rock", "Soul")}
    assert set(trends.wanted) == expected


def test_an_empty_snapshot_proposes_nothing() -> None:
    found = ask(HeldTrends(NO_SNAPSHOT), query(history=[1], market="SE"))

    assert len(found.rows) == len(found.scores) == 0


@pytest.mark.parametrize(
    ("age_s", "is_stale"), [(0.0, False), (MAX_AGE_S, False), (MAX_AGE_S + 0.1, True)]
)
def test_an_answer_is_stale_beyond_the_limit(age_s: float, is_stale: bool) -> None:
    found = ask(HeldTrends(snapshot(everywhere=EVERYWHERE), age_s), query())

    assert found.data_age_s == age_s
    assert found.is_stale is is_stale
    assert len(found.rows) == 4


def test_the_limit_of_staleness_is_a_setting() -> None:
    trends = HeldTrends(snapshot(everywhere=EVERYWHERE), age_s=5.0)

    found = trending_candidates(query(), trends, Blends(ITEMS), traits(), GENRES, max_age_s=4.0)

    assert found.is_stale


@pytest.mark.parametrize(
    ("held", "market", "tier"),
    [
        ({"SE_Jazz": {100: 1.0}, "SE": {100: 1.0}}, "SE", Tier.TRENDING_MARKET_GENRE),
        ({"SE_Rock": {100: 1.0}, "SE": {100: 1.0}}, "SE", Tier.TRENDING_MARKET),
        ({"Jazz": {100: 1.0}}, "SE", Tier.TRENDING_GLOBAL),
        ({"SE_Jazz": {100: 1.0}, "SE": {100: 1.0}}, "", Tier.TRENDING_GLOBAL),
    ],
    ids=["market and genre", "market", "nothing of the market", "no market asked for"],
)
def test_the_answer_says_how_near_to_the_user_its_trend_is(
    held: dict[str, dict[int, float]], market: str, tier: Tier
) -> None:
    trends = HeldTrends(snapshot(everywhere=EVERYWHERE, **held))

    assert ask(trends, query(history=[0], market=market)).tier is tier


@pytest.mark.parametrize(
    ("history", "genres"),
    [
        ([], []),
        ([4], []),
        ([0, 1, 1], ["Rock", "Jazz"]),
        ([0, 1], ["Jazz", "Rock"]),
        ([1, 0], ["Rock", "Jazz"]),
        ([3], ["Jazz", "Rock", "Soul"]),
        ([5, 3], ["Soul", "Jazz", "Rock"]),
    ],
    ids=["no history", "no genre", "most", "newest", "newest too", "ties by code", "sum"],
)
def test_genres_lead_by_recency_weight(history: list[int], genres: list[str]) -> None:
    assert leading_genres(query(history=history), traits(), GENRES) == genres


def test_old_plays_say_nothing_of_genres() -> None:
    history = [0] * GENRE_PLAYS + [1] * 50

    assert leading_genres(query(history=history), traits(), GENRES) == ["Jazz"]


def test_items_without_genre_do_not_hide_the_genres_of_others() -> None:
    assert leading_genres(query(history=[4, 4, 4, 1]), traits(), GENRES) == ["Rock"]
