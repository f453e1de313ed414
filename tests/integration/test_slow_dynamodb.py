"""DynamoDB on a busy machine: what reads and fills it waits longer, and nothing is lost."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshctl.prepare import prepare_dynamodb
from meshkit.bundles import Bundle
from meshkit.config import read_environment
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from meshkit.errors import DependencyUnavailable
from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.config import CandidatesConfig
from services.candidates.domain.trending import GLOBAL
from services.candidates.domain.values import CandidateSource, Query
from services.candidates.wiring import SOURCES
from signals.bundle_facts import BundleFacts
from tests.contract.unprocessed_proxy import UnprocessedProxy
from tests.integration.meshkit_children import wait_until
from tests.small_bundle import AS_OF_S

QUERY = Query(10, np.zeros(0, dtype=np.uint32), b"", np.zeros(0, dtype=np.uint32), market="")
LATE_S = 0.5
"""Longer than a read waits by default."""


@pytest.fixture
def engine() -> Iterator[EmbeddedDynamodb]:
    with EmbeddedDynamodb() as started:
        yield started


def fill(endpoint: str, bundle: Bundle) -> None:
    prepare_dynamodb(endpoint, bundles=bundle.path.parent, version=bundle.version)


@contextmanager
def trending(bundle: Bundle, endpoint: str, **settings: str) -> Iterator[CandidateSource]:
    """Open the source as a process with these settings does."""
    environment = {
        "RECMESH_SOURCE": "trending",
        "RECMESH_BUNDLES": str(bundle.path.parent),
        "RECMESH_CLOCK": "bundle",
        "RECMESH_DYNAMODB_ENDPOINT": endpoint,
        **settings,
    }
    config = read_environment(CandidatesConfig, environment)
    facts = BundleFacts.from_json(bundle.manifest.facts)
    with ExitStack() as closing:
        yield SOURCES["trending"](config, bundle, facts, closing)


def answers(source: CandidateSource) -> bool:
    try:
        return len(source.generate(QUERY).rows) > 0
    except DependencyUnavailable:
        return False


def test_a_dynamodb_that_answers_late_is_prepared(
    small_bundle: Bundle, engine: EmbeddedDynamodb
) -> None:
    with UnprocessedProxy(engine.endpoint, late=3, late_s=LATE_S) as proxy:
        fill(proxy.endpoint, small_bundle)

    store = DynamodbTrendingStore.connect(
        engine.endpoint, TrendingTables(DEFAULT_TABLE_PREFIX), read_timeout_s=BULK_READ_TIMEOUT_S
    )
    assert GLOBAL in store.segments(AS_OF_S)


def test_trending_waits_for_a_late_answer_as_long_as_its_settings_say(
    small_bundle: Bundle, engine: EmbeddedDynamodb
) -> None:
    fill(engine.endpoint, small_bundle)
    with UnprocessedProxy(engine.endpoint, late=1_000, late_s=LATE_S) as proxy:
        patience = {"RECMESH_DYNAMODB_READ_TIMEOUT_S": "10"}

        with trending(small_bundle, proxy.endpoint, **patience) as patient:
            wait_until(lambda: answers(patient))
        with trending(small_bundle, proxy.endpoint) as hasty:
            asked = proxy.requests
            wait_until(lambda: proxy.requests >= asked + 3)
            assert not answers(hasty)


def test_a_bundle_that_comes_while_dynamodb_is_down_trends_like_the_one_before(
    small_bundle: Bundle,
) -> None:
    with EmbeddedDynamodb() as engine:
        endpoint = engine.endpoint
        fill(endpoint, small_bundle)
        with trending(small_bundle, endpoint, RECMESH_DYNAMODB_READ_TIMEOUT_S="10") as before:
            wait_until(lambda: answers(before))
            engine.stop()

            with trending(small_bundle, endpoint, RECMESH_DYNAMODB_READ_TIMEOUT_S="10") as after:
                assert answers(after)
            with trending(
                small_bundle, endpoint, RECMESH_CLOCK="wall", RECMESH_DYNAMODB_READ_TIMEOUT_S="10"
            ) as by_another_clock:
                assert not answers(by_another_clock)
