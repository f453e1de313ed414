"""One trained world and one running mesh for all end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built_once import built_once
from tests.e2e.running_mesh import RunningMesh, meshctl, running_mesh


@pytest.fixture(scope="session")
def world(shared: Path) -> Path:
    """A directory with a synthetic `log` and the `bundles` trained on it: change nothing there."""
    return built_once(shared / "world", _train)


def _train(directory: Path) -> None:
    size = ("--users", "400", "--items", "500", "--days", "60", "--seed", "3")
    for command in (
        ("data", "synth", *size, "--out", "log"),
        ("train", "log", "--bundles", "bundles"),
    ):
        ended = meshctl(directory, *command)
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="package")
def mesh(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh over the world's bundle; it ends with these tests, and takes nothing from others."""
    with running_mesh(tmp_path_factory.mktemp("mesh"), world / "bundles") as running:
        yield running
