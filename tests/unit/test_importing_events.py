"""The `events` form: what its columns mean, in CSV and in Parquet."""

import gzip
from pathlib import Path

import pytest

from tests.unit.importing import imported, imported_csv, write_lines, write_parquet

MIDNIGHT_S = 1_704_067_200  # 2024-01-01T00:00:00Z


def test_timestamps_order_each_users_events_from_position_zero(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path, "user_id,item_id,timestamp", "u2,b,5", "u1,c,30", "u1,a,20", "u1,b,10"
    )

    assert log.events("user_id, item_id, timestamp, position") == [
        ("u1", "b", 10, 0),
        ("u1", "a", 20, 1),
        ("u1", "c", 30, 2),
        ("u2", "b", 5, 0),
    ]
    assert log.summary.order == "time"
    assert (log.summary.first_timestamp, log.summary.last_timestamp) == (5, 30)


def test_positions_order_events_and_are_numbered_anew(tmp_path: Path) -> None:
    log = imported_csv(tmp_path, "user_id,item_id,position", "u,x,7", "u,y,-1", "u,z,100")

    assert log.events("item_id, timestamp, position") == [
        ("y", None, 0),
        ("x", None, 1),
        ("z", None, 2),
    ]
    assert log.summary.order == "position"
    assert log.summary.first_timestamp is None


def test_position_breaks_ties_between_equal_timestamps(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path, "user_id,item_id,timestamp,position", "u,a,9,2", "u,b,9,1", "u,c,8,"
    )

    assert log.events("item_id, position") == [("c", 0), ("b", 1), ("a", 2)]
    assert log.summary.order == "time"


def test_a_log_without_time_and_position_has_no_order(tmp_path: Path) -> None:
    log = imported_csv(tmp_path, "item_id,user_id", "b,u", "a,u", "a,u")

    assert log.events("item_id, timestamp, position") == [("a", None, None)] * 2 + [
        ("b", None, None)
    ]
    assert log.summary.order == "none"


def test_optional_columns_have_their_defaults(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path,
        "user_id,item_id,timestamp,event,value,market",
        "u,a,1,,,",
        "u,b,2,skip,0.5,SE",
    )

    assert log.events("event, value, market") == [("play", 1.0, None), ("skip", 0.5, "SE")]


@pytest.mark.parametrize(
    ("header", "expected"), [("rating", 4.0), ("rating,value", 7.0), ("value", 4.0)]
)
def test_rating_is_the_value_only_where_there_is_no_value(
    tmp_path: Path, header: str, expected: float
) -> None:
    row = "u,a,4,7" if "," in header else "u,a,4"

    log = imported_csv(tmp_path, f"user_id,item_id,{header}", row)

    assert log.events("value") == [(expected,)]


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("1390209882", 1_390_209_882),
        ("1390209882.9", 1_390_209_882),
        ("2024-01-01", MIDNIGHT_S),
        ("2024-01-01T00:00", MIDNIGHT_S),
        ("2024-01-01 00:00:07.5", MIDNIGHT_S + 7),
        ("2024-01-01T00:00:00Z", MIDNIGHT_S),
        ("2024-01-01T02:00:00+02:00", MIDNIGHT_S),
        ("2023-12-31T18:30:00-0530", MIDNIGHT_S),
        ("2024-01-01T01:00:00+01", MIDNIGHT_S),
    ],
)
def test_timestamps_may_be_unix_seconds_or_iso_8601(tmp_path: Path, text: str, unix_s: int) -> None:
    log = imported_csv(tmp_path, "user_id,item_id,timestamp", f"u,a,{text}")

    assert log.events("timestamp") == [(unix_s,)]


@pytest.mark.parametrize(
    "kind", ["TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_NS", "TIMESTAMP_S", "DATE"]
)
def test_parquet_may_hold_any_kind_of_timestamp(tmp_path: Path, kind: str) -> None:
    source = write_parquet(
        tmp_path / "log.parquet",
        f"SELECT 1 AS user_id, 2 AS item_id, '2024-01-01 00:00:00'::TIMESTAMP::{kind} AS timestamp",
    )

    log = imported(source)

    assert log.events("user_id, item_id, timestamp") == [("1", "2", MIDNIGHT_S)]


def test_ids_are_text_and_keep_their_zeros(tmp_path: Path) -> None:
    log = imported_csv(tmp_path, "user_id,item_id", "007,1.0", "ünï ,NULL")

    assert log.events("user_id, item_id") == [("007", "1.0"), ("ünï ", "NULL")]


def test_quoted_fields_follow_rfc_4180(tmp_path: Path) -> None:
    log = imported_csv(tmp_path, '"user_id",item_id,event', '"u,1","say ""hi""",""', "u2,plain,x")

    assert log.events("user_id, item_id, event") == [
        ("u,1", 'say "hi"', "play"),
        ("u2", "plain", "x"),
    ]


def test_gzip_and_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    source = tmp_path / "log.csv.gz"
    source.write_bytes(gzip.compress(b"\xef\xbb\xbfuser_id,item_id\r\nu,a\r\n\r\nu,b\nu,c"))

    log = imported(source)

    assert log.events("item_id") == [("a",), ("b",), ("c",)]
    assert log.summary.rejected == {}


def test_repeat_plays_stay_but_copies_in_a_position_log_go(tmp_path: Path) -> None:
    timed = imported_csv(tmp_path / "timed", "user_id,item_id,timestamp", "u,a,1", "u,a,1")
    placed = imported_csv(
        tmp_path / "placed", "user_id,item_id,position", "u,a,1", "u,a,1", "u,a,2"
    )

    assert timed.summary.events == 2
    assert placed.summary.events == 2
    assert placed.summary.rejected == {"copy of another row": 1}


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 11},{n % 5}" for n in range(200)]
    header = "user_id,item_id,timestamp"

    forward = imported_csv(tmp_path / "a", header, *rows)
    backward = imported_csv(tmp_path / "b", header, *reversed(rows))

    for name in ("events.parquet", "items.parquet", "log.json"):
        assert (forward.directory / name).read_bytes() == (backward.directory / name).read_bytes()


def test_an_items_table_becomes_the_catalogue(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path,
        "user_id,item_id",
        "u,a",
        items=[
            "item_id,title,artist,genres,released,markets,colour",
            'a,"One, Two",Someone,pop|soul|pop,2024-01-01,SE|DE,red',
            "b,,,,1995,,",
            "c,Old,,,-86400,,",
        ],
    )

    assert log.items("item_id, title, artist, genres, released, markets") == [
        ("a", "One, Two", "Someone", ["pop", "soul"], MIDNIGHT_S, ["DE", "SE"]),
        ("b", "", "", [], 788_918_400, []),
        ("c", "Old", "", [], -86_400, []),
    ]
    assert log.summary.catalogue_items == 3
    assert log.summary.items == 1


def test_an_items_table_may_be_parquet_with_lists(tmp_path: Path) -> None:
    items = write_parquet(
        tmp_path / "items.parquet",
        "SELECT 1 AS item_id, ['folk', 'jazz'] AS genres, DATE '2024-01-01' AS released,"
        " ['US'] AS markets",
    )
    source = write_lines(tmp_path / "log.csv", "user_id,item_id", "u,1")

    log = imported(source, items=items)

    assert log.items("item_id, genres, released, markets") == [
        ("1", ["folk", "jazz"], MIDNIGHT_S, ["US"])
    ]
