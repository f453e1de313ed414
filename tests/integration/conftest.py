"""Fixtures that several integration tests share."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built_once import built_once
from tests.integration.small_world import TrainedWorld, train_on, write_world

TRAINED = "trained.pickle"
VERDICTS = "RECMESH_VERDICTS"


@pytest.fixture(scope="package", autouse=True)
def shared_verdicts(shared: Path) -> Iterator[None]:
    """Have equal bundles verified once for all processes, as those of a mesh do."""
    with pytest.MonkeyPatch.context() as patched:
        if VERDICTS not in os.environ:
            patched.setenv(VERDICTS, str(shared / "verdicts"))
        yield


@pytest.fixture(scope="session")
def trained_world(shared: Path) -> TrainedWorld:
    """A small world, trained on once: change nothing in it."""
    folder = built_once(shared / "trained-world", _train)
    trained = pickle.loads((folder / TRAINED).read_bytes())  # noqa: S301 - written by `_train`
    return TrainedWorld(folder / "log", folder / "bundles", trained)


def _train(folder: Path) -> None:
    trained = train_on(write_world(folder / "log"), folder / "bundles")
    (folder / TRAINED).write_bytes(pickle.dumps(trained))
