"""Composition root of a candidates process: the only file that names concrete adapters."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc
from recmesh.common.v1 import status_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import Bundle, readable
from meshkit.call_log import CallLog
from meshkit.clock import Clock, FixedClock, WallClock
from meshkit.config import PREFIX, ConfigError
from meshkit.errors import DependencyError
from meshkit.held_server import serve_held
from meshkit.logs import setup_logs
from meshkit.shelf import Shelf
from meshkit.telemetry import metrics
from services.candidates.adapters.ann_source import AnnSource
from services.candidates.adapters.dynamodb_client import TOTAL_ATTEMPTS
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.next_source import NextSource
from services.candidates.adapters.similar_source import SimilarSource
from services.candidates.adapters.together_source import TogetherSource
from services.candidates.adapters.trending_metrics import TrendingMetrics
from services.candidates.adapters.trending_refresher import TrendingRefresher
from services.candidates.adapters.trending_source import TrendingSource
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.config import CandidatesConfig
from services.candidates.domain.trending import TrendingStoreMisconfiguredError
from services.candidates.domain.values import CandidateSource, Query
from services.candidates.servicer import CandidateServicer, HeldSource
from services.status import StatusServicer
from signals.bundle_facts import BundleFacts

SERVICE = candidates_pb2.DESCRIPTOR.services_by_name["CandidateService"].full_name

LEAST_WARM_LIMIT_S = 2.0  # a first read of trending takes some 50 ms
WARM_POLL_S = 0.02

Opener = Callable[[CandidatesConfig, Bundle, BundleFacts, ExitStack], CandidateSource]


def serve(config: CandidatesConfig) -> None:
    """Serve until told to stop. Raises ConfigError, and BundleError for a pinned version."""
    if config.source not in SOURCES:
        allowed = ", ".join(SOURCES)
        raise ConfigError(f"{PREFIX}SOURCE={config.source!r}: no such source; allowed: {allowed}")
    name = f"candidates-{config.source}"
    setup_logs(name)
    telemetry.setup(name, str(os.getpid()))
    call_log = CallLog(config.call_log, name)

    def register(server: grpc.Server, shelf: Shelf[HeldSource]) -> None:
        servicer = CandidateServicer(shelf, call_log)
        candidates_pb2_grpc.add_CandidateServiceServicer_to_server(servicer, server)
        status_pb2_grpc.add_StatusServiceServicer_to_server(StatusServicer(shelf), server)

    try:
        serve_held(
            config.server,
            config.stock,
            lambda bundle: _load(config, bundle),
            register,
            service_names=[SERVICE],
            discard=lambda held: held.closing.close(),
        )
    finally:
        telemetry.shutdown()


def _load(config: CandidatesConfig, bundle: Bundle) -> HeldSource:
    with ExitStack() as closing:
        with readable(bundle):
            facts = BundleFacts.from_json(bundle.manifest.facts)
            source = SOURCES[config.source](config, bundle, facts, closing)
        _warm(source, facts, _warm_limit_s(config))
        return HeldSource(source, facts.items, closing.pop_all())


def _ann(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return AnnSource.open(bundle.path, facts)


def _similar(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return SimilarSource.open(bundle.path, facts)


def _next(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return NextSource.open(bundle.path, facts)


def _together(
    _config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, _closing: ExitStack
) -> CandidateSource:
    return TogetherSource.open(bundle.path, facts)


def _trending(
    config: CandidatesConfig, bundle: Bundle, facts: BundleFacts, closing: ExitStack
) -> CandidateSource:
    trends = closing.enter_context(_trends(config, facts))
    closing.enter_context(_trending_metrics().following(trends.age_s))
    return TrendingSource.open(bundle.path, trends, config.trending_max_age_s)


def _trends(config: CandidatesConfig, facts: BundleFacts) -> TrendingRefresher:
    """Return a refresher that begins with what the last one knew: trends are no part of a bundle.

    By a clock that stands still at another time, other things trend.
    """
    stands_at_s = None if config.clock == "wall" else facts.as_of_s
    clock: Clock = WallClock() if stands_at_s is None else FixedClock(stands_at_s)
    store = _trending_store(
        config.dynamodb_endpoint,
        config.table_prefix,
        config.dynamodb_connect_timeout_s,
        config.dynamodb_read_timeout_s,
    )
    newest = _newest_trends()
    trends = TrendingRefresher(
        store,
        clock.now_s,
        refresh_s=config.trending_refresh_s,
        predecessor=newest.get((store, stands_at_s)),
        metrics=_trending_metrics(),
    )
    newest.clear()
    newest[store, stands_at_s] = trends
    return trends


@cache  # one for the process
def _newest_trends() -> dict[tuple[DynamodbTrendingStore, float | None], TrendingRefresher]:
    """Hold the refresher made last, by its store and by when its clock stands still, if it does."""
    return {}


@cache  # all bundles count together
def _trending_metrics() -> TrendingMetrics:
    return TrendingMetrics(metrics.meter())


@cache  # a client takes some 20 MB and knows nothing of bundles
def _trending_store(
    endpoint: str | None, table_prefix: str, connect_timeout_s: float, read_timeout_s: float
) -> DynamodbTrendingStore:
    try:
        return DynamodbTrendingStore.connect(
            endpoint,
            TrendingTables(table_prefix),
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
    except TrendingStoreMisconfiguredError as exc:
        variable = f"{PREFIX}DYNAMODB_ENDPOINT"
        raise ConfigError(f"{variable}={endpoint or ''!r}: {exc}") from exc


SOURCES: Mapping[str, Opener] = {
    "ann": _ann,
    "similar": _similar,
    "next": _next,
    "together": _together,
    "trending": _trending,
}


def _warm_limit_s(config: CandidatesConfig) -> float:
    """Return how long a first answer may take: at least as long as a read of DynamoDB may."""
    return max(LEAST_WARM_LIMIT_S, TOTAL_ATTEMPTS * config.dynamodb_read_timeout_s)


def _warm(source: CandidateSource, facts: BundleFacts, limit_s: float) -> None:
    """Answer once before anybody asks, so that the first request finds mapped pages and code.

    A source whose dependency is down serves all the same, and says so in every answer.
    """
    history = np.arange(min(facts.items, 50), dtype=np.uint32)
    query = Query(200, history, b"", np.zeros(0, dtype=np.uint32), market="")
    gives_up_at_s = time.monotonic() + limit_s
    while not _answers(source, query) and time.monotonic() < gives_up_at_s:
        time.sleep(WARM_POLL_S)


def _answers(source: CandidateSource, query: Query) -> bool:
    try:
        source.generate(query)
    except DependencyError:
        return False
    return True
