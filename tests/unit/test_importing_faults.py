"""Rows and files that cannot be used: counted by reason, or refused in words."""

import gzip
import os
from pathlib import Path

import pytest

from pipeline.importing.import_log import import_log
from pipeline.importing.staging import UnusableSourceError
from tests.unit.importing import imported, imported_csv, write_lines, write_parquet

GOOD = "u,a,1,1,SE"
HEADER = "user_id,item_id,timestamp,value,market"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a,1,1,SE", "missing user_id"),
        ('u,"",1,1,SE', "missing item_id"),
        (f"{'ü' * 129},a,1,1,SE", "user_id longer than 256 bytes"),
        (f"u,{'x' * 257},1,1,SE", "item_id longer than 256 bytes"),
        ("u\0,a,1,1,SE", "control character in user_id"),
        ("u,a,,1,SE", "missing timestamp"),
        ("u,a,yesterday,1,SE", "unreadable timestamp"),
        ("u,a,2024-02-30,1,SE", "unreadable timestamp"),
        ("u,a,nan,1,SE", "unreadable timestamp"),
        ("u,a,-1,1,SE", "timestamp out of range (years 1970 to 2100)"),
        ("u,a,0,1,SE", "timestamp out of range (years 1970 to 2100)"),
        ("u,a,1700000000000,1,SE", "timestamp out of range (years 1970 to 2100)"),
        ("u,a,1e300,1,SE", "timestamp out of range (years 1970 to 2100)"),
        ("u,a,1,many,SE", "unreadable value"),
        ("u,a,1,nan,SE", "value not finite"),
        ("u,a,1,-inf,SE", "value not finite"),
        ("u,a,1,1,se", "malformed market (not two capital letters)"),
        ("u,a,1,1,SWE", "malformed market (not two capital letters)"),
        ("u,a,1,1", "wrong number of columns"),
        ("u,a,1,1,SE,more", "wrong number of columns"),
        ('u,"a,1,1,SE', "broken quoting"),
        ('u,"a"b,1,1,SE', "broken quoting"),
        (f"u,{'x' * 2_100_000},1,1,SE", "line longer than 2,000,000 bytes"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_by_its_reason(
    tmp_path: Path, row: str, reason: str
) -> None:
    log = imported_csv(tmp_path, HEADER, GOOD, row, GOOD)

    assert log.summary.rejected == {reason: 1}
    assert log.summary.events == 2


def test_lines_that_are_not_utf_8_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "log.csv"
    source.write_bytes(b"user_id,item_id\nu,a\nu,caf\xe9\nu,b\n")

    log = imported(source)

    assert log.events("item_id") == [("a",), ("b",)]
    assert log.summary.rejected == {"not UTF-8 text": 1}


def test_an_unclosed_quote_costs_one_line_and_not_the_rest_of_the_file(tmp_path: Path) -> None:
    rows = [f'u{n},"i{n}"' for n in range(1_000)]

    log = imported_csv(tmp_path, "user_id,item_id", 'u,"open', *rows)

    assert log.summary.events == 1_000
    assert log.summary.rejected == {"broken quoting": 1}


@pytest.mark.parametrize("text", ["1.5", "first", "1e400"])
def test_a_position_must_be_a_whole_number(tmp_path: Path, text: str) -> None:
    log = imported_csv(tmp_path, "user_id,item_id,position", "u,a,1", f"u,b,{text}", "u,c,2.0")

    assert log.events("item_id, position") == [("a", 0), ("c", 1)]
    assert log.summary.rejected == {"position is no whole number": 1}


def test_every_row_is_an_event_or_counted(tmp_path: Path) -> None:
    fields = ["", "u", "x" * 300, '"', '""', "1", "nan", "SE", "\x01", "é"]
    rows = [f"{a},{b},{c}" for a in fields for b in fields for c in fields]

    log = imported_csv(tmp_path, "user_id,item_id,timestamp", *rows)

    assert log.summary.events + sum(log.summary.rejected.values()) == len(rows)


def test_a_file_with_no_usable_row_fails_and_says_why(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", HEADER, ",a,1,1,SE", "u,a,noon,1,SE", "u,a,x,1,SE")

    with pytest.raises(UnusableSourceError, match="none of its 3 rows can be used") as caught:
        imported(source)

    assert "missing user_id: 1; unreadable timestamp: 2" in str(caught.value)


def test_a_missing_column_is_named_with_the_columns_found(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user,item_id,ts", "u,a,1")

    with pytest.raises(UnusableSourceError, match=r"no column 'user_id'.*'user', 'item_id', 'ts'"):
        imported(source)


def test_a_doubled_column_is_refused(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user_id,item_id,item_id", "u,a,b")

    with pytest.raises(UnusableSourceError, match="column 'item_id' appears more than once"):
        imported(source)


def test_a_nested_parquet_column_is_refused(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "log.parquet", "SELECT {'a': 1} AS user_id, 'i' AS item_id")

    with pytest.raises(UnusableSourceError, match="'user_id' has type STRUCT"):
        imported(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "is empty"),
        ("log.csv", b"user_id,item_id\n", "holds no events"),
        ("log.csv", b"\0\0\0\0\n", "not a text file"),
        ("log.csv", b"x" * 100_000, "first line is longer than 65,536 bytes"),
        ("log.csv", gzip.compress(b"user_id,item_id\n" + os.urandom(9_000))[:5_000], "gzip|GZIP"),
        ("log.csv.gz", b"\x1f\x8b\x08nonsense", "damaged gzip"),
        ("log.parquet", b"user_id,item_id\nu,a\n", "cannot be read"),
        ("log.parquet", b"PAR1 and no more", "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_in_words(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnusableSourceError, match=message) as caught:
        imported(tmp_path / name)

    assert name in str(caught.value)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    source = write_parquet(
        tmp_path / "log.parquet", "SELECT i AS user_id, i AS item_id FROM range(9000) AS r(i)"
    )
    source.write_bytes(source.read_bytes()[:-200])

    with pytest.raises(UnusableSourceError, match="cannot be read"):
        imported(source)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "log.csv"
    source.mkdir()

    with pytest.raises(UnusableSourceError, match="is not a file"):
        imported(source)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSourceError, match="does not exist"):
        imported(tmp_path / "nowhere.csv")


def test_names_with_quotes_and_wildcards_are_read_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "it's [1]* {a}" / "user_id=9"
    write_lines(folder / "other.csv", "user_id,item_id", "wrong,wrong")
    source = write_lines(folder / "'o?*[x].csv", "user_id,item_id", "u,a")

    log = imported(source)

    assert log.events("user_id, item_id") == [("u", "a")]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "item_id=9"
    folder.mkdir()
    source = write_parquet(folder / "log.parquet", "SELECT 'u' AS user_id")

    with pytest.raises(UnusableSourceError, match="no column 'item_id'"):
        imported(source)


def test_nothing_is_left_behind_by_an_import_that_fails(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user_id,item_id", ",")

    with pytest.raises(UnusableSourceError):
        import_log(source, tmp_path / "out", log_format="events")

    assert list(tmp_path.iterdir()) == [source]


def test_a_malformed_market_in_the_items_table_fails_the_import(tmp_path: Path) -> None:
    with pytest.raises(UnusableSourceError, match="item 'a' has market 'Sweden'"):
        imported_csv(
            tmp_path, "user_id,item_id", "u,a", items=["item_id,markets", "a,SE|Sweden", "b,"]
        )


def test_rights_are_never_lost_with_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    items = ["item_id,title,markets", "a,x,SE", "b,x"]

    with pytest.raises(UnusableSourceError, match=r"every row must be readable.*wrong number"):
        imported_csv(tmp_path, "user_id,item_id", "u,a", items=items)


def test_of_two_rows_of_an_item_the_narrower_rights_stay(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path, "user_id,item_id", "u,a", items=["item_id,markets", "a,", "a,DE|SE", "a,SE"]
    )

    assert log.items("item_id, markets") == [("a", ["SE"])]
    assert log.summary.rejected == {"items: row of an item that has another row": 2}


def test_items_are_mended_or_left_out_with_a_count(tmp_path: Path) -> None:
    log = imported_csv(
        tmp_path,
        "user_id,item_id",
        "u,a",
        items=["item_id,title,released", f"a,{'t' * 600},soon", ",x,1", "b,x"],
    )

    assert log.items("item_id, length(title), released") == [("a", 500, None)]
    assert log.summary.rejected == {
        "items: missing item_id": 1,
        "items: title or artist cut to 500 characters": 1,
        "items: unreadable released, left empty": 1,
        "items: wrong number of columns": 1,
    }
