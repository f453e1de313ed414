"""One trained world and one running mesh for all end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running_mesh import RunningMesh, meshctl, running_mesh


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a synthetic `log` and the `bundles` trained on it."""
    directory = tmp_path_factory.mktemp("world")
    size = ("--users", "400", "--items", "500", "--days", "60", "--seed", "3")
    for command in (
        ("data", "synth", *size, "--out", "log"),
        ("train", "log", "--bundles", "bundles"),
    ):
        ended = meshctl(directory, *command)
        assert ended.returncode == 0, ended.stderr
    return directory


@pytest.fixture(scope="session")
def mesh(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh over the world's bundle."""
    with running_mesh(tmp_path_factory.mktemp("mesh"), world / "bundles") as running:
        yield running
