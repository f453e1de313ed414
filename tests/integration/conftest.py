"""Fixtures that several integration tests share."""

import pytest

from tests.integration.small_world import TrainedWorld, train_on, write_world


@pytest.fixture(scope="session")
def trained_world(tmp_path_factory: pytest.TempPathFactory) -> TrainedWorld:
    """A small world, trained on once: change nothing in it."""
    folder = tmp_path_factory.mktemp("world")
    log, bundles = write_world(folder / "log"), folder / "bundles"
    return TrainedWorld(log, bundles, train_on(log, bundles))
