"""Fixtures that tests of every kind share."""

import os
from pathlib import Path

import pytest

from meshkit.bundles import Bundle, open_store
from tests.built_once import built_once, shared_directory
from tests.small_bundle import publish_small_bundle

# LightGBM's threads spin while they wait, by default: beside a second worker that is most of the
# processor's time. Read when its library is loaded, here and in processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for what is built once for all workers."""
    return shared_directory(tmp_path_factory.getbasetemp(), os.environ)


@pytest.fixture(scope="session")
def small_bundle(shared: Path) -> Bundle:
    """The tiny bundle, published in a store of its own; read it only."""
    return open_store(built_once(shared / "small-bundle", publish_small_bundle)).open()
