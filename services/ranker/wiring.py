"""Composition root of a ranker process: the only file that names concrete adapters."""

import os

import grpc
import numpy as np
from recmesh.common.v1 import status_pb2_grpc
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import Bundle, readable
from meshkit.call_log import CallLog
from meshkit.held_server import serve_held
from meshkit.logs import setup_logs
from meshkit.shelf import Shelf
from meshkit.telemetry import metrics
from services.ranker.adapters.bundle_item_tables import open_item_tables
from services.ranker.adapters.ranking_metrics import RankingMetrics
from services.ranker.adapters.scoring_model import open_model
from services.ranker.config import RankerConfig
from services.ranker.domain.features import feature_names
from services.ranker.domain.rank import rank
from services.ranker.domain.values import RankingQuery
from services.ranker.servicer import HeldModel, RankerServicer
from services.status import StatusServicer
from signals.bundle_facts import BundleFacts

SERVICE = ranker_pb2.DESCRIPTOR.services_by_name["RankerService"].full_name


def serve(config: RankerConfig) -> None:
    """Serve until told to stop. Raises ConfigError, and BundleError for a pinned version."""
    setup_logs("ranker")
    telemetry.setup("ranker", str(os.getpid()))
    call_log = CallLog(config.call_log, "ranker")
    ranked = RankingMetrics(metrics.meter()).ranked

    def register(server: grpc.Server, shelf: Shelf[HeldModel]) -> None:
        servicer = RankerServicer(shelf, call_log, ranked)
        ranker_pb2_grpc.add_RankerServiceServicer_to_server(servicer, server)
        status_pb2_grpc.add_StatusServiceServicer_to_server(StatusServicer(shelf), server)

    try:
        serve_held(config.server, config.stock, _load, register, service_names=[SERVICE])
    finally:
        telemetry.shutdown()


def _load(bundle: Bundle) -> HeldModel:
    with readable(bundle):
        facts = BundleFacts.from_json(bundle.manifest.facts)
        tables = open_item_tables(bundle.path, facts)
        held = HeldModel(tables, open_model(bundle.path, feature_names()))
    _warm(held)
    return held


def _warm(held: HeldModel) -> None:
    """Rank once before anybody asks, so that the first request finds mapped pages and code.

    The features have the type and the layout of every request's, so the kernel is compiled for
    them here, or read from numba's cache, and never again.
    """
    rows = np.arange(min(held.tables.n_items, 500), dtype=np.uint32)
    ages_s = np.zeros(len(rows[:50]), dtype=np.float32)
    rank(RankingQuery(rows, {}, rows[:50], ages_s), held.tables, held.model)
