"""Composition root of a ranker process: the only file that names concrete adapters."""

import os
from contextlib import ExitStack

import grpc
import numpy as np
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import open_store, readable
from meshkit.logs import setup_logs
from meshkit.server import serve_sync
from services.ranker.adapters.bundle_item_tables import open_item_tables
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.config import RankerConfig
from services.ranker.domain.features import feature_names
from services.ranker.domain.rank import rank
from services.ranker.domain.values import RankingQuery
from services.ranker.servicer import HeldModel, RankerServicer
from signals.bundle_facts import BundleFacts

SERVICE = ranker_pb2.DESCRIPTOR.services_by_name["RankerService"].full_name


def serve(config: RankerConfig) -> None:
    """Load the bundle and serve until told to stop. Raises BundleError and ConfigError."""
    setup_logs("ranker")
    telemetry.setup("ranker", str(os.getpid()))
    with ExitStack() as closing:
        closing.callback(telemetry.shutdown)
        bundle = open_store(config.bundles).open(config.bundle_version)
        with readable(bundle):
            facts = BundleFacts.from_json(bundle.manifest.facts)
            tables = open_item_tables(bundle.path, facts)
            model = LightgbmModel.open(bundle.path, feature_names())
        held = HeldModel(tables, model)
        servicer = RankerServicer({bundle.version: held})

        def register(server: grpc.Server) -> None:
            ranker_pb2_grpc.add_RankerServiceServicer_to_server(servicer, server)

        serve_sync(config.server, register, service_names=[SERVICE], warm=lambda: _warm(held))


def _warm(held: HeldModel) -> None:
    """Rank once before anybody asks, so that the first request finds mapped pages and code."""
    rows = np.arange(min(held.tables.n_items, 500), dtype=np.uint32)
    ages_s = np.zeros(len(rows[:50]), dtype=np.float32)
    rank(RankingQuery(rows, {}, rows[:50], ages_s), held.tables, held.model)
