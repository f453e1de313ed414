"""Reading a log directory into arrays."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline import event_log as module
from pipeline.event_log import LogError, read_event_log
from pipeline.log_directory import LogDirectoryError
from signals.bundle import NO_CODE, NO_MARKET, market_column
from signals.keys import item_keys
from tests.unit.event_logs import Item, Play, event_log, item_ids, place_of_user


def test_rows_and_users_stand_in_key_order(tmp_path: Path) -> None:
    plays = [Play(f"user-{n % 7}", f"item-{n}", n) for n in range(40)]

    log = event_log(tmp_path, plays)

    users = item_keys([f"user-{n}" for n in range(7)])
    assert np.array_equal(log.catalogue.keys.keys, item_keys(item_ids(log)))
    assert np.array_equal(log.user_keys, np.sort(users))
    assert (np.diff(log.catalogue.keys.keys.astype(object)) > 0).all()
    assert (np.diff(log.user_keys.astype(object)) > 0).all()


def test_events_stand_by_user_then_oldest_first(tmp_path: Path) -> None:
    plays = [Play("v", "b", 3), Play("u", "c", 10), Play("u", "a", 12), Play("u", "c", 11)]
    plays.sort(key=lambda play: play.at_s or 0)

    log = event_log(tmp_path, plays)

    told = zip(log.events.users, log.events.rows, log.events.times_s, strict=True)
    ids = item_ids(log)
    named = [(int(u), ids[r], int(t)) for u, r, t in told]
    u, v = place_of_user(log, "u"), place_of_user(log, "v")
    of_u = [(u, "c", 10), (u, "c", 11), (u, "a", 12)]
    assert named == ([*of_u, (v, "b", 3)] if u < v else [(v, "b", 3), *of_u])


def test_positions_order_a_log_without_times(tmp_path: Path) -> None:
    items = [f"item-{n}" for n in (4, 2, 9, 1, 7)]

    log = event_log(tmp_path, [Play("u", item) for item in items], order="position")

    assert [item_ids(log)[row] for row in log.events.rows] == items
    assert not log.events.times_s.any()


def test_markets_are_columns_and_none_is_none(tmp_path: Path) -> None:
    plays = [Play("u", "a", 1, "DE"), Play("u", "a", 2), Play("u", "a", 3, "ZZ")]

    log = event_log(tmp_path, plays)

    expected = [market_column("DE"), NO_MARKET, market_column("ZZ")]
    assert log.events.markets.tolist() == expected


@pytest.mark.parametrize("market", ["", "d", "de", "DEU", "\u00dc1"])
def test_a_market_that_is_none_reads_as_none(tmp_path: Path, market: str) -> None:
    log = event_log(tmp_path, [Play("u", "a", 1, market)])

    assert log.events.markets.tolist() == [NO_MARKET]


def test_the_catalogue_is_what_was_played_with_what_is_known_of_it(tmp_path: Path) -> None:
    items = {
        "a": Item("Title", "Artist", ["Rock", "Pop"], ["DE"]),
        "never played": Item("Nothing"),
        "nor this": Item(),
    }

    log = event_log(tmp_path, [Play("u", "a", 1), Play("u", "b", 2)], items=items)

    catalogue = log.catalogue
    names = catalogue.genre_names.names()
    a, b = item_ids(log).index("a"), item_ids(log).index("b")
    assert sorted(item_ids(log)) == ["a", "b"]
    assert (catalogue.texts.title(a), catalogue.texts.artist(a)) == ("Title", "Artist")
    assert (catalogue.texts.title(b), catalogue.texts.artist(b)) == ("", "")
    assert [names[code] for code in catalogue.traits.genres[a, :2]] == ["Rock", "Pop"]
    assert catalogue.traits.genres[a, 2] == NO_CODE
    assert (catalogue.traits.genres[b] == NO_CODE).all()
    rights = catalogue.traits.rights
    assert catalogue.rights.may_show(rights, "DE")[[a, b]].tolist() == [True, True]
    assert catalogue.rights.may_show(rights, "SE")[[a, b]].tolist() == [False, True]
    assert log.unplayed_items == 2


def test_a_log_without_events_is_read(tmp_path: Path) -> None:
    log = event_log(tmp_path, [], items={"a": Item()})

    assert (len(log.events), len(log.user_keys), len(log.catalogue)) == (0, 0, 0)
    assert log.unplayed_items == 1


def test_ids_that_share_a_key_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEY_SQL", "length({column})::UBIGINT")
    with duckdb.connect() as db:
        db.execute("CREATE TABLE events AS SELECT unnest(['aa', 'b', 'cc', 'aa']) AS item_id")

        with pytest.raises(LogError, match=r"item_id: \['aa', 'cc'\] share one 64-bit key"):
            module._rank_by_key(db, "item_id", "played")


def test_a_folder_that_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogDirectoryError, match=str(tmp_path)):
        read_event_log(tmp_path)


def test_an_item_with_two_rows_is_refused_by_name(tmp_path: Path) -> None:
    event_log(tmp_path, [Play("u", "a", 1)], items={"a": Item("Title")})
    directory = next(tmp_path.glob("*/log"))
    with duckdb.connect() as db:
        doubled = str(tmp_path / "doubled.parquet")
        rows = db.read_parquet(str(directory / "items.parquet"))
        rows.union(rows).write_parquet(doubled)
    (directory / "items.parquet").write_bytes(Path(doubled).read_bytes())

    with pytest.raises(LogError, match=r"items\.parquet has more than one row of item 'a'"):
        read_event_log(directory)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    event_log(tmp_path, [Play("u", "a", 1)])
    directory = next(tmp_path.glob("*/log"))
    (directory / "events.parquet").write_bytes(b"not a table")

    with pytest.raises(LogError, match=r"events\.parquet"):
        read_event_log(directory)
