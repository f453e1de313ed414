"""What every candidate source does, whatever it answers from."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from meshkit.bundles import Bundle
from pipeline.offline_mesh import OPENERS, FixedTrends
from pipeline.trending_counts import snapshot_of
from services.candidates.adapters.trending_source import TrendingSource
from services.candidates.domain.values import CandidateSource, Query
from services.candidates.wiring import SOURCES
from signals.bloom import build_filter, contains
from signals.bundle import GenreNames, ItemKeys, Popularity, TrendCounts
from signals.bundle_facts import BundleFacts
from tests.small_bundle import ITEM_IDS, TASTES, UNPLAYED_ID, taste_of

N_ITEMS = len(ITEM_IDS)
NO_ROWS = np.zeros(0, dtype=np.uint32)
TASTE = TASTES[0]
NEEDS_HISTORY = {"ann", "similar", "next", "together"}
"""Sources that have nothing to say to a stranger."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source over the tiny bundle, by the name that it is configured with."""

    name: str
    source: CandidateSource
    keys: NDArray[np.uint64]
    row_of: dict[str, int]

    def query(self, *history_ids: str, limit: int = 10) -> Query:
        return Query(limit, self.rows(*history_ids), b"", NO_ROWS, market="")

    def rows(self, *item_ids: str) -> NDArray[np.uint32]:
        return np.array([self.row_of[item_id] for item_id in item_ids], dtype=np.uint32)


def open_source(name: str, bundle: Bundle, order: str = "time") -> CandidateSource:
    facts = replace(BundleFacts.from_json(bundle.manifest.facts), order=order)
    if name in OPENERS:
        return OPENERS[name](bundle.path, facts)
    trends = snapshot_of(
        TrendCounts.open(bundle.path),
        ItemKeys.open(bundle.path),
        GenreNames.open(bundle.path).names(),
        facts.as_of_s,
    )
    return TrendingSource.open(bundle.path, FixedTrends(trends))


@pytest.fixture(params=sorted(SOURCES))
def opened(request: pytest.FixtureRequest, small_bundle: Bundle) -> Opened:
    items = ItemKeys.open(small_bundle.path)
    row_of = dict(zip(ITEM_IDS, items.rows_of_ids(ITEM_IDS).tolist(), strict=True))
    return Opened(request.param, open_source(request.param, small_bundle), items.keys, row_of)


def random_queries(opened: Opened) -> list[Query]:
    random = np.random.default_rng(17)
    queries = []
    for _ in range(60):
        history = random.integers(0, N_ITEMS, random.choice([0, 1, 5, 50, 200])).astype(np.uint32)
        had = random.integers(0, N_ITEMS, random.integers(0, 30))
        queries.append(
            Query(
                limit=int(random.choice([1, 5, 30, 2000])),
                history_rows=history,
                seen_filter=build_filter(opened.keys[had]),
                exclude_rows=random.integers(0, N_ITEMS, random.integers(0, 30)).astype(np.uint32),
                market=str(random.choice(["", "SE", "US", "ZZ"])),
            )
        )
    return queries


def ruled_out(opened: Opened, query: Query) -> set[int]:
    """Return every row of the bundle that may not be answered."""
    in_filter = np.flatnonzero(contains(query.seen_filter, opened.keys)).tolist()
    return {*in_filter, *query.history_rows.tolist(), *query.exclude_rows.tolist()}


def test_answers_keep_the_contract_on_random_queries(opened: Opened) -> None:
    answered = 0
    for query in random_queries(opened):
        found = opened.source.generate(query)

        rows = found.rows.tolist()
        answered += len(rows)
        assert found.rows.dtype == np.uint32
        assert found.scores.dtype == np.float32
        assert len(found.rows) == len(found.scores) <= query.limit
        assert len(set(rows)) == len(rows)
        assert all(row < N_ITEMS for row in rows)
        assert np.isfinite(found.scores).all()
        assert (np.diff(found.scores) <= 0).all()
        assert not set(rows) & ruled_out(opened, query)
    assert answered > 0


def test_an_answer_is_the_same_every_time(opened: Opened, small_bundle: Bundle) -> None:
    again = open_source(opened.name, small_bundle)

    for query in random_queries(opened)[:20]:
        first, second = opened.source.generate(query), again.generate(query)
        assert first.rows.tolist() == second.rows.tolist()
        assert first.scores.tobytes() == second.scores.tobytes()


def test_a_stranger_gets_an_answer(opened: Opened) -> None:
    found = opened.source.generate(opened.query())

    assert len(found.rows) == (0 if opened.name in NEEDS_HISTORY else 10)
    assert len(found.scores) == len(found.rows)


def test_the_limit_is_filled_while_there_are_unseen_items(opened: Opened) -> None:
    found = opened.source.generate(opened.query(f"{TASTE}-00", f"{TASTE}-01", limit=15))

    assert len(found.rows) == 15


def test_a_shorter_list_is_the_head_of_a_longer_one(opened: Opened) -> None:
    history = (f"{TASTE}-00", f"{TASTE}-01", f"{TASTE}-02")

    short = opened.source.generate(opened.query(*history, limit=5))
    long = opened.source.generate(opened.query(*history, limit=20))

    assert short.rows.tolist() == long.rows[:5].tolist()


def test_a_taste_in_the_history_brings_more_of_it(opened: Opened) -> None:
    taste_by_row = {row: taste_of(item_id) for item_id, row in opened.row_of.items()}

    def answered_of_taste(history_taste: str) -> int:
        history = [f"{history_taste}-{number:02d}" for number in range(6)]
        found = opened.source.generate(opened.query(*history, limit=10))
        return sum(taste_by_row[row] == TASTE for row in found.rows.tolist())

    assert answered_of_taste(TASTE) > answered_of_taste(TASTES[1])


def test_who_had_everything_is_proposed_nothing(opened: Opened) -> None:
    query = replace(opened.query(f"{TASTE}-00"), seen_filter=build_filter(opened.keys))

    found = opened.source.generate(query)

    assert len(found.rows) == len(found.scores) == 0


def test_heavy_listeners_get_what_is_left(opened: Opened, small_bundle: Bundle) -> None:
    popular = Popularity.open(small_bundle.path).rows
    had = popular[: N_ITEMS - 12]
    query = replace(
        opened.query(f"{TASTE}-00", f"{TASTE}-01", limit=3),
        seen_filter=build_filter(opened.keys[had]),
    )

    found = opened.source.generate(query)

    assert len(found.rows) == 3
    assert set(found.rows.tolist()) <= set(popular[N_ITEMS - 12 :].tolist())


def test_an_item_that_nobody_played_is_neither_proposed_nor_stumbled_over(opened: Opened) -> None:
    found = opened.source.generate(opened.query(UNPLAYED_ID, limit=2000))

    assert opened.row_of[UNPLAYED_ID] not in found.rows
    assert np.isfinite(found.scores).all()


def test_repeats_in_a_history_are_taken(opened: Opened) -> None:
    found = opened.source.generate(opened.query(*[f"{TASTE}-00"] * 200))

    assert len(set(found.rows.tolist())) == len(found.rows) == 10


@pytest.mark.parametrize("opened", sorted(NEEDS_HISTORY), indirect=True)
def test_a_log_without_order_makes_the_order_of_plays_meaningless(
    opened: Opened, small_bundle: Bundle
) -> None:
    source = open_source(opened.name, small_bundle, order="none")
    history = [f"{taste}-{number:02d}" for number in range(8) for taste in TASTES]

    forwards = source.generate(opened.query(*history, limit=20))
    backwards = source.generate(opened.query(*history[::-1], limit=20))

    assert set(forwards.rows.tolist()) == set(backwards.rows.tolist())
    np.testing.assert_allclose(forwards.scores, backwards.scores, rtol=1e-3)


@pytest.mark.parametrize("opened", ["trending"], indirect=True)
def test_an_answer_from_a_snapshot_says_its_age(opened: Opened) -> None:
    found = opened.source.generate(opened.query())

    assert found.data_age_s == 0.0
    assert not found.is_stale


@pytest.mark.parametrize("opened", sorted(NEEDS_HISTORY), indirect=True)
def test_an_answer_from_the_bundle_has_no_age(opened: Opened) -> None:
    assert opened.source.generate(opened.query(f"{TASTE}-00")).data_age_s is None
