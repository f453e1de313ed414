"""`meshctl data`: what the two commands show and how they fail."""

from pathlib import Path

from typer.testing import CliRunner

from meshctl.data import app
from pipeline.importing.registry import FORMATS
from pipeline.log_directory import read_log_summary
from tests.unit.importing import write_lines

runner = CliRunner()


def test_import_shows_what_was_left_out(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user_id,item_id", "u,a", ",a", ",b")
    out = tmp_path / "log"

    result = runner.invoke(app, ["import", "--format", "events", str(source), "--out", str(out)])

    assert result.exit_code == 0
    assert [
        line for line in result.output.splitlines() if "missing user_id" in line and "2" in line
    ]
    assert read_log_summary(out).rejected == {"missing user_id": 2}


def test_import_fails_with_one_line_and_status_1(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user,item", "u,a")
    out = tmp_path / "log"

    result = runner.invoke(app, ["import", "--format", "events", str(source), "--out", str(out)])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "no column 'user_id'" in result.stderr
    assert not out.exists()


def test_import_replaces_a_log_only_with_force(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user_id,item_id", "u,a")
    arguments = ["import", "--format", "events", str(source), "--out", str(tmp_path / "log")]

    codes = [runner.invoke(app, [*arguments, *more]).exit_code for more in ([], [], ["--force"])]

    assert codes == [0, 1, 0]


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    result = runner.invoke(app, ["import", "--format", "tape", "x", "--out", str(tmp_path / "log")])

    assert result.exit_code == 2
    for name in FORMATS:
        assert name in result.stderr


def test_import_takes_an_items_table(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.csv", "user_id,item_id", "u,a")
    items = write_lines(tmp_path / "items.csv", "item_id,title", "a,A", "b,B")
    out = tmp_path / "log"

    arguments = ["--format", "events", str(source), "--out", str(out), "--items", str(items)]
    result = runner.invoke(app, ["import", *arguments])

    assert result.exit_code == 0
    assert read_log_summary(out).catalogue_items == 2


def test_synth_writes_a_log_and_replaces_it_only_with_force(tmp_path: Path) -> None:
    arguments = ["synth", "--users", "5", "--items", "100", "--days", "3", "--seed", "1"]
    arguments += ["--out", str(tmp_path / "log")]

    first = runner.invoke(app, arguments)
    second = runner.invoke(app, arguments)
    third = runner.invoke(app, [*arguments, "--force"])

    assert [first.exit_code, second.exit_code, third.exit_code] == [0, 1, 0]
    assert "exists already" in second.stderr
    assert read_log_summary(tmp_path / "log").format == "synth"


def test_synth_names_a_setting_outside_its_limits(tmp_path: Path) -> None:
    arguments = [
        "synth",
        "--users",
        "5",
        "--items",
        "99",
        "--days",
        "3",
        "--out",
        str(tmp_path / "x"),
    ]

    result = runner.invoke(app, arguments)

    assert result.exit_code == 1
    assert "items must be 100 to 1,000,000, not 99" in result.stderr
