"""Fixtures that tests of every kind share."""

import os

import pytest

from meshkit.bundles import Bundle
from tests.small_bundle import publish_small_bundle

# LightGBM's threads spin while they wait, by default: beside a second worker that is most of the
# processor's time. Read when its library is loaded, here and in processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, published in a store of its own; read it only."""
    return publish_small_bundle(tmp_path_factory.mktemp("bundles"))
