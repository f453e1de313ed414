"""`meshctl source` and the control file that it writes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshctl.source import app


def run_source(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def unboxed(text: str) -> str:
    """The words of an error without the box that typer draws around them."""
    return " ".join(word for word in text.split() if word != "│")


def written(path: Path) -> object:
    return json.loads(path.read_text())


def test_a_disabled_source_is_in_the_control_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "control.json"

    run_source("disable", "trending", "--control-file", str(path))
    run_source("disable", "ann", "--control-file", str(path))

    assert written(path) == {"disabled_sources": ["ann", "trending"]}


def test_an_enabled_source_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    path.write_text('{"disabled_sources": ["ann", "trending"]}')

    run_source("enable", "ann", "--control-file", str(path))

    assert written(path) == {"disabled_sources": ["trending"]}


def test_disabling_twice_is_disabling_once(tmp_path: Path) -> None:
    path = tmp_path / "control.json"

    run_source("disable", "ann", "--control-file", str(path))
    run_source("disable", "ann", "--control-file", str(path))

    assert written(path) == {"disabled_sources": ["ann"]}


def test_an_unknown_source_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "control.json"

    result = run_source("disable", "trendin", "--control-file", str(path))

    assert result.exit_code == 2
    assert "ann, similar, next, together, trending" in unboxed(result.stderr)
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"disabled_sources": "ann"}'])
def test_a_broken_control_file_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "control.json"
    path.write_text(text)

    result = run_source("enable", "ann", "--control-file", str(path))

    assert result.exit_code == 2
    assert "control.json" in unboxed(result.stderr).replace(" ", "")
    assert path.read_text() == text
