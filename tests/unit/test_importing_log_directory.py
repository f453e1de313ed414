"""The log directory: written whole or not at all, and read back with care."""

import json
from pathlib import Path

import pytest

from pipeline.log_directory import (
    EVENTS_FILE,
    ITEMS_FILE,
    SUMMARY_FILE,
    LogDirectoryError,
    LogSummary,
    connect,
    new_log_directory,
    read_log_summary,
    write_log,
)


def write_one(out: Path, *, replace: bool = False, user: str = "u") -> LogSummary:
    with new_log_directory(out, replace=replace) as partial, connect(partial) as connection:
        connection.execute("INSERT INTO events VALUES (?, 'i', 5, 0, 'play', 1.0, NULL)", [user])
        return write_log(
            connection, partial, log_format="events", order="time", rejected={"b": 2, "a": 1}
        )


def interrupted_write(out: Path) -> None:
    with new_log_directory(out, replace=True) as partial:
        (partial / EVENTS_FILE).write_text("half")
        raise KeyboardInterrupt


def test_a_summary_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_one(tmp_path / "log")

    assert read_log_summary(tmp_path / "log") == written
    assert written == LogSummary("events", "time", 1, 1, 1, 0, 5, 5, {"a": 1, "b": 2})


def test_a_log_directory_holds_its_three_files_and_no_other(tmp_path: Path) -> None:
    write_one(tmp_path / "deep" / "log")

    names = {path.name for path in (tmp_path / "deep" / "log").iterdir()}
    assert names == {EVENTS_FILE, ITEMS_FILE, SUMMARY_FILE}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["log"]


def test_an_existing_directory_is_refused_without_replace(tmp_path: Path) -> None:
    write_one(tmp_path / "log", user="first")

    with pytest.raises(LogDirectoryError, match="exists already; --force"):
        write_one(tmp_path / "log", user="second")


def test_replace_puts_the_new_log_in_the_place_of_the_old(tmp_path: Path) -> None:
    write_one(tmp_path / "log")
    before = (tmp_path / "log" / EVENTS_FILE).read_bytes()

    write_one(tmp_path / "log", replace=True, user="second")

    assert (tmp_path / "log" / EVENTS_FILE).read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_replace_never_takes_a_folder_that_is_no_log(tmp_path: Path) -> None:
    precious = tmp_path / "home" / "letter.txt"
    precious.parent.mkdir()
    precious.write_text("dear")

    with pytest.raises(LogDirectoryError, match="not a log directory"):
        write_one(tmp_path / "home", replace=True)

    assert precious.read_text() == "dear"


def test_a_writer_that_fails_leaves_the_old_log_and_nothing_else(tmp_path: Path) -> None:
    written = write_one(tmp_path / "log")

    with pytest.raises(KeyboardInterrupt):
        interrupted_write(tmp_path / "log")

    assert read_log_summary(tmp_path / "log") == written
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_folder_that_is_no_log_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LogDirectoryError, match="it does not exist"):
        read_log_summary(tmp_path / "nowhere")
    with pytest.raises(LogDirectoryError, match="it is a file"):
        read_log_summary(tmp_path / "file")
    with pytest.raises(LogDirectoryError, match=r"it has no log\.json"):
        read_log_summary(tmp_path)


@pytest.mark.parametrize("name", [EVENTS_FILE, ITEMS_FILE])
def test_a_log_directory_needs_its_tables(tmp_path: Path, name: str) -> None:
    write_one(tmp_path / "log")
    (tmp_path / "log" / name).unlink()

    with pytest.raises(LogDirectoryError, match=f"it has no {name}"):
        read_log_summary(tmp_path / "log")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 3),
        ("order", "sideways"),
        ("order", ["time"]),
        ("events", -1),
        ("users", "many"),
        ("items", True),
        ("catalogue_items", None),
        ("first_timestamp", 1.5),
        ("rejected", {"a": "b"}),
        ("rejected", []),
    ],
)
def test_a_field_with_a_wrong_value_is_named(tmp_path: Path, field: str, value: object) -> None:
    write_one(tmp_path / "log")
    file = tmp_path / "log" / SUMMARY_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))

    with pytest.raises(LogDirectoryError, match=f"field '{field}' cannot be"):
        read_log_summary(tmp_path / "log")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "JSON object"), ("{}", "no field 'format'"), ("\xff", "JSON")],
)
def test_a_damaged_summary_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_one(tmp_path / "log")
    (tmp_path / "log" / SUMMARY_FILE).write_bytes(text.encode("latin-1"))

    with pytest.raises(LogDirectoryError, match=message):
        read_log_summary(tmp_path / "log")
