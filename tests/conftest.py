"""Fixtures that tests of every kind share."""

import pytest

from meshkit.bundles import Bundle
from tests.small_bundle import publish_small_bundle


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, published in a store of its own; read it only."""
    return publish_small_bundle(tmp_path_factory.mktemp("bundles"))
