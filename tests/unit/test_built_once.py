"""What several test processes read is built by one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.built_once import DIRECTORY, WORKER, built_once, shared_directory

ASKING = """
import sys
from pathlib import Path
from tests.built_once import built_once

def build(directory):
    with (directory / "builders").open("a") as builders:
        builders.write("one\\n")

print((built_once(Path(sys.argv[1]), build) / "builders").read_text(), end="")
"""


def test_of_several_processes_one_builds_and_all_see_the_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKING, str(tmp_path / "run" / "thing")]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    seen = [process.communicate(timeout=60)[0] for process in asking]

    assert seen == ["one\n"] * 4


def test_a_build_that_failed_is_begun_anew_with_nothing_of_it_left(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        built_once(tmp_path / "thing", fail)
    built = built_once(tmp_path / "thing", lambda directory: (directory / "whole").touch())

    assert [path.name for path in built.iterdir()] == ["whole"]


def test_workers_share_the_runs_directory_and_runs_the_one_that_is_named(tmp_path: Path) -> None:
    assert shared_directory(tmp_path / "worker", {}) == tmp_path / "worker"
    assert shared_directory(tmp_path / "worker", {WORKER: "gw1"}) == tmp_path
    assert shared_directory(tmp_path, {WORKER: "gw1", DIRECTORY: "/x"}) == Path("/x")
