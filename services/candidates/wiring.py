"""Composition root of a candidates process: the only file that names concrete adapters."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import Bundle, open_store, readable
from meshkit.clock import Clock, FixedClock, WallClock
from meshkit.config import PREFIX, ConfigError
from meshkit.errors import DependencyError
from meshkit.logs import setup_logs
from meshkit.server import serve_sync
from services.candidates.adapters.ann_source import AnnSource
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.similar_source import SimilarSource
from services.candidates.adapters.trending_refresher import TrendingRefresher
from services.candidates.adapters.trending_source import TrendingSource
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.config import CandidatesConfig
from services.candidates.domain.trending import TrendingStoreMisconfiguredError
from services.candidates.domain.values import CandidateSource, Query
from services.candidates.servicer import CandidateServicer, HeldSource
from signals.bundle_facts import BundleFacts

SERVICE = candidates_pb2.DESCRIPTOR.services_by_name["CandidateService"].full_name

WARM_LIMIT_S = 2.0  # a first read of trending takes some 50 ms
WARM_POLL_S = 0.02

Opener = Callable[[CandidatesConfig, Bundle, BundleFacts, ExitStack], CandidateSource]


def serve(config: CandidatesConfig) -> None:
    """Load the bundle and serve until told to stop. Raises BundleError and ConfigError."""
    name = f"candidates-{config.source}"
    setup_logs(name)
    telemetry.setup(name, str(os.getpid()))
    with ExitStack() as closing:
        closing.callback(telemetry.shutdown)
        bundle = open_store(config.bundles).open(config.bundle_version)
        with readable(bundle):
            facts = BundleFacts.from_json(bundle.manifest.facts)
            source = SOURCES[config.source](config, bundle, facts, closing)
        servicer = CandidateServicer({bundle.version: HeldSource(source, facts.items)})

        def register(server: grpc.Server) -> None:
            candidates_pb2_grpc.add_CandidateServiceServicer_to_server(servicer, server)

        serve_sync(
            config.server, register, service_names=[SERVICE], warm=lambda: _warm(source, facts)
        )


def _ann(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return AnnSource.open(bundle.path, facts)


def _similar(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return SimilarSource.open(bundle.path, facts)


def _trending(
    config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, closing: ExitStack
) -> CandidateSource:
    clock: Clock = WallClock() if config.clock == "wall" else FixedClock(facts.as_of_s)
    tables = TrendingTables(config.table_prefix)
    try:
        store = DynamodbTrendingStore.connect(config.dynamodb_endpoint, tables)
    except TrendingStoreMisconfiguredError as exc:
        variable = f"{PREFIX}DYNAMODB_ENDPOINT"
        raise ConfigError(f"{variable}={config.dynamodb_endpoint or ''!r}: {exc}") from exc
    trends = closing.enter_context(
        TrendingRefresher(store, clock.now_s, refresh_s=config.trending_refresh_s)
    )
    return TrendingSource.open(bundle.path, trends)


SOURCES: Mapping[str, Opener] = {"ann": _ann, "similar": _similar, "trending": _trending}


def _warm(source: CandidateSource, facts: BundleFacts) -> None:
    """Answer once before anybody asks, so that the first request finds mapped pages and code.

    A source whose dependency is down serves all the same, and says so in every answer.
    """
    history = np.arange(min(facts.items, 50), dtype=np.uint32)
    query = Query(200, history, b"", np.zeros(0, dtype=np.uint32), market="")
    gives_up_at_s = time.monotonic() + WARM_LIMIT_S
    while not _answers(source, query) and time.monotonic() < gives_up_at_s:
        time.sleep(WARM_POLL_S)


def _answers(source: CandidateSource, query: Query) -> bool:
    try:
        source.generate(query)
    except DependencyError:
        return False
    return True
