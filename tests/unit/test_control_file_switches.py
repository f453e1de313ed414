"""Switches in a file: read again, and never lost to a bad file."""

import logging
from pathlib import Path

import pytest

from services.gateway.adapters.control_file_switches import MAX_BYTES, ControlFileSwitches

SOURCES = ("ann", "similar", "trending")


@pytest.fixture
def control_file(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


@pytest.fixture
def switches(control_file: Path) -> ControlFileSwitches:
    return ControlFileSwitches(control_file, SOURCES)


def test_nothing_is_off_before_the_first_look(switches: ControlFileSwitches) -> None:
    assert switches.disabled_sources() == frozenset()


def test_a_missing_file_switches_nothing_off(
    switches: ControlFileSwitches, control_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    switches.read(control_file)

    assert switches.disabled_sources() == frozenset()
    assert caplog.records == []


def test_a_change_is_seen_at_the_next_look(
    switches: ControlFileSwitches, control_file: Path
) -> None:
    seen = []
    for text in ('{"disabled_sources": ["ann"]}', '{"disabled_sources": ["ann", "similar"]}', "{}"):
        control_file.write_text(text)
        switches.read(control_file)
        seen.append(switches.disabled_sources())

    assert seen == [{"ann"}, {"ann", "similar"}, set()]


def test_a_file_that_goes_away_switches_everything_on(
    switches: ControlFileSwitches, control_file: Path
) -> None:
    control_file.write_text('{"disabled_sources": ["ann"]}')
    switches.read(control_file)

    control_file.unlink()
    switches.read(control_file)

    assert switches.disabled_sources() == frozenset()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"disabled_sources": ["ann"',
        b"[]",
        b'"ann"',
        b"null",
        b'{"disabled_sources": "ann"}',
        b'{"disabled_sources": [1]}',
        b'{"disabled_sources": null}',
        b"\xff\xfe",
        b"[" * MAX_BYTES,
        b'{"disabled_sources": [' + b" " * MAX_BYTES + b"]}",
    ],
    ids=lambda content: str(content[:30]),
)
def test_a_bad_file_keeps_what_was_and_is_logged(
    switches: ControlFileSwitches,
    control_file: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    control_file.write_text('{"disabled_sources": ["similar"]}')
    switches.read(control_file)

    control_file.write_bytes(content)
    switches.read(control_file)

    assert switches.disabled_sources() == {"similar"}
    (fault,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(control_file) in fault.getMessage()


def test_a_directory_in_its_place_keeps_what_was(
    switches: ControlFileSwitches, control_file: Path
) -> None:
    control_file.write_text('{"disabled_sources": ["similar"]}')
    switches.read(control_file)

    control_file.unlink()
    control_file.mkdir()
    switches.read(control_file)

    assert switches.disabled_sources() == {"similar"}


def test_a_mended_file_is_taken_over_again(
    switches: ControlFileSwitches, control_file: Path
) -> None:
    for text in ("not json", '{"disabled_sources": ["trending"]}'):
        control_file.write_text(text)
        switches.read(control_file)

    assert switches.disabled_sources() == {"trending"}


def test_names_that_are_not_configured_are_logged_beside_those_that_are(
    switches: ControlFileSwitches, control_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    control_file.write_text('{"disabled_sources": ["ann", "anm"]}')

    switches.read(control_file)

    assert "ann" in switches.disabled_sources()
    assert "not configured: ['anm']" in caplog.text


def test_an_unchanged_file_is_logged_once(
    switches: ControlFileSwitches, control_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    control_file.write_text("not json")

    for _ in range(3):
        switches.read(control_file)

    assert len(caplog.records) == 1


def test_without_a_path_watching_ends_at_once() -> None:
    watching = ControlFileSwitches(None, SOURCES).watch()

    with pytest.raises(StopIteration):
        watching.send(None)
