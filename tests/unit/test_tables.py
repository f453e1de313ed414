"""A bundle's tables: what is known of items and users as of one moment."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.event_log import EventLog, LogError
from pipeline.tables import RECENT_WINDOW_S, Tables, build_tables
from services.candidates.adapters.annoy_index import AnnoyIndex
from signals.bundle import NO_CODE
from signals.keys import item_key
from tests.unit.event_logs import Item, Play, event_log

# implicit warns about BLAS threads, which we limit, and about scipy's newer matrix types.
pytestmark = pytest.mark.filterwarnings("ignore:::implicit")

AS_OF_S = 1_600_000_000
WEEK_S = RECENT_WINDOW_S
ITEMS = {
    "a": Item("Song", "Band", ["Rock", "Pop", "Rock"], ["DE", "FR"]),
    "b": Item("SONG", "BAND", ["Pop"], ["FR", "DE", "FR"]),
    "c": Item("Other", "Band", ["Jazz", "Folk", "Pop", "Rock"], []),
    "d": Item("Song", ""),
    "e": Item("Song", "", markets=["SE"]),
}
PLAYS = [
    Play("u", "a", AS_OF_S - 3 * WEEK_S),
    Play("u", "b", AS_OF_S - 2 * WEEK_S),
    Play("v", "a", AS_OF_S - 2 * WEEK_S),
    Play("u", "a", AS_OF_S - 100),
    Play("u", "c", AS_OF_S - 90),
    Play("v", "c", AS_OF_S - 80),
    Play("w", "c", AS_OF_S - 70),
    Play("w", "d", AS_OF_S - 60),
    Play("w", "b", AS_OF_S + 10),
    Play("w", "e", AS_OF_S + 20),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return event_log(tmp_path_factory.mktemp("logs"), PLAYS, items=ITEMS)


@pytest.fixture(scope="module")
def tables(log: EventLog) -> Tables:
    """Everything up to `AS_OF_S`: "e" has not been played yet."""
    return tables_of(log, AS_OF_S)


def tables_of(log: EventLog, as_of_s: int) -> Tables:
    before = log.events.where(log.events.times_s < as_of_s)
    return build_tables(before, log, as_of_s=as_of_s, seed=1)


def row(tables: Tables, item: str) -> int:
    return int(tables.keys.rows_of_ids([item])[0])


def test_rows_are_the_catalogues_with_its_texts(tables: Tables) -> None:
    for item, known in ITEMS.items():
        place = row(tables, item)
        assert tables.texts.item_id(place) == item
        assert tables.texts.title(place) == known.title
        assert tables.texts.artist(place) == known.artist
        assert tables.keys.keys[place] == item_key(item)


def test_an_item_has_its_first_three_genres_each_once(tables: Tables) -> None:
    names = tables.genre_names.names()

    def genres(item: str) -> list[str]:
        codes = tables.traits.genres[row(tables, item)]
        return [names[code] for code in codes if code != NO_CODE]

    assert names == ("Folk", "Jazz", "Pop", "Rock")
    assert genres("a") == ["Rock", "Pop"]
    assert genres("c") == ["Jazz", "Folk", "Pop"]
    assert genres("d") == []


def test_rights_are_a_set_of_markets_and_none_means_everywhere(tables: Tables) -> None:
    def shown_in(item: str) -> set[str]:
        own = tables.traits.rights[[row(tables, item)]]
        markets = ("DE", "FR", "SE", "US")
        return {market for market in markets if tables.rights.may_show(own, market)[0]}

    assert shown_in("a") == shown_in("b") == {"DE", "FR"}
    assert shown_in("e") == {"SE"}
    assert shown_in("c") == shown_in("d") == {"DE", "FR", "SE", "US"}
    assert len(tables.rights.allowed) == 3


def test_a_market_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="markets: 'de' is not two capital letters"):
        event_log(tmp_path, PLAYS, items={"a": Item(markets=["de"])})


def test_items_of_one_artist_share_a_code_and_unknown_artists_do_not(tables: Tables) -> None:
    artists = {item: int(tables.traits.artists[row(tables, item)]) for item in ITEMS}

    assert artists["a"] == artists["c"]
    assert len({artists["a"], artists["b"], artists["d"], artists["e"]}) == 4


def test_uploads_of_one_recording_share_a_code_whatever_their_case(tables: Tables) -> None:
    recordings = {item: int(tables.traits.recordings[row(tables, item)]) for item in ITEMS}

    assert recordings["a"] == recordings["b"]
    assert len({recordings["a"], recordings["c"], recordings["d"], recordings["e"]}) == 4


def test_stats_are_shares_of_plays_before_the_moment(tables: Tables) -> None:
    stats = tables.stats
    rows = [row(tables, item) for item in "abcde"]

    assert stats.share[rows].tolist() == pytest.approx([3 / 8, 1 / 8, 3 / 8, 1 / 8, 0])
    assert stats.recent_share[rows].tolist() == pytest.approx([1 / 5, 0, 3 / 5, 1 / 5, 0])
    first_s = [AS_OF_S - 3 * WEEK_S, AS_OF_S - 2 * WEEK_S, AS_OF_S - 90, AS_OF_S - 60, 0]
    assert stats.first_played_s[rows].tolist() == first_s


def test_share_rank_runs_from_the_most_played_to_the_least(tables: Tables) -> None:
    order = np.lexsort((np.arange(5), -tables.stats.share))

    assert tables.stats.share_rank[order].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_popularity_is_by_listeners_rather_than_plays(tables: Tables) -> None:
    order = [tables.texts.item_id(place) for place in tables.popularity.rows]

    tied = sorted(("b", "d"), key=lambda item: row(tables, item))
    assert order == ["c", "a", *tied, "e"]


def test_histories_hold_every_play_before_the_moment_oldest_first(tables: Tables) -> None:
    def history(user: str) -> list[tuple[str, int]]:
        rows, times_s = tables.histories.of(item_key(user))
        pairs = zip(rows, times_s, strict=True)
        return [(tables.texts.item_id(place), int(at_s)) for place, at_s in pairs]

    for user in ("u", "v", "w"):
        expected = [(p.item, p.at_s) for p in PLAYS if p.user == user and (p.at_s or 0) < AS_OF_S]
        assert history(user) == expected
    assert history("nobody") == []


def test_an_item_nobody_has_played_yet_is_nowhere(tables: Tables, tmp_path: Path) -> None:
    unplayed = row(tables, "e")
    tables.write(tmp_path)
    index = AnnoyIndex(tmp_path, tables.facts.dimension)

    assert not tables.embedding.vectors[unplayed].any()
    assert unplayed not in tables.indexed.rows
    assert sorted(tables.indexed.rows.tolist()) == sorted(set(range(5)) - {unplayed})
    assert unplayed not in index.nearest(tables.embedding.vectors[row(tables, "a")], 5)
    assert not tables.neighbours.scores[unplayed].any()
    assert not (tables.neighbours.rows[tables.neighbours.scores > 0] == unplayed).any()
    assert unplayed not in tables.trends.rows


def test_facts_are_of_the_events_before_the_moment(tables: Tables) -> None:
    facts = tables.facts

    assert (facts.items, facts.users, facts.events) == (5, 3, 8)
    assert (facts.as_of_s, facts.window_start_s) == (AS_OF_S, AS_OF_S - 3 * WEEK_S)
    assert facts.recent_window_s == RECENT_WINDOW_S


@pytest.mark.parametrize("order", ["position", "none"])
def test_a_log_without_times_has_none_in_its_tables(tmp_path: Path, order: str) -> None:
    plays = [Play(play.user, play.item) for play in PLAYS]
    log = event_log(tmp_path, plays, items=ITEMS, order=order)  # type: ignore[arg-type] # a literal

    tables = build_tables(log.events, log, as_of_s=0, seed=1)

    assert not tables.stats.first_played_s.any()
    assert not tables.stats.recent_share.any()
    assert tables.facts.recent_window_s == 0


def test_equal_events_give_equal_tables(log: EventLog, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tables_of(log, AS_OF_S).write(tmp_path / name)

    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) > 20
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
