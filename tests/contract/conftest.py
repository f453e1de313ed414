"""Fixtures that contract suites share."""

from collections.abc import Iterator

import pytest

from meshctl.embedded_dynamodb import EmbeddedDynamodb


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 API server on loopback."""
    with EmbeddedDynamodb(service="s3") as engine:
        yield engine.endpoint
