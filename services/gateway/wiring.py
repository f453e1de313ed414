"""Composition root of the gateway: the only file that names concrete adapters."""

import asyncio
import os
from contextlib import AsyncExitStack

import grpc
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import Bundle, open_store, readable
from meshkit.channels import open_channel
from meshkit.clock import Clock, FixedClock, WallClock
from meshkit.deadlines import Budget
from meshkit.logs import setup_logs
from meshkit.server import serve_aio
from services.gateway.adapters.bundle_history_store import BundleHistoryStore
from services.gateway.adapters.control_file_switches import ControlFileSwitches
from services.gateway.adapters.grpc_ranker_client import GrpcRankerClient
from services.gateway.adapters.grpc_source_client import GrpcSourceClient
from services.gateway.config import GatewayConfig
from services.gateway.domain.filters import ItemRules
from services.gateway.domain.recommend import Limits, Recommender, ServedBundle
from services.gateway.domain.values import Ask
from services.gateway.servicer import RecommendationServicer
from signals.bundle import ItemKeys, ItemTexts, ItemTraits, MarketRights, Popularity
from signals.bundle_facts import BundleFacts

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name

WARM_REQUESTS = 3
WARM_LIMIT_S = 2.0  # longer than any channel needs to connect; a dead leaf does not hold us up


def serve(config: GatewayConfig) -> None:
    """Load the bundle and serve until told to stop. Raises BundleError and ConfigError."""
    setup_logs("gateway")
    telemetry.setup("gateway", str(os.getpid()))
    bundle = open_store(config.bundles).open(config.bundle_version)
    gateway = Gateway(config, bundle)
    try:
        serve_aio(
            config.server,
            gateway.register,
            service_names=[SERVICE],
            warm=gateway.warm,
            on_stop=gateway.close,
        )
    finally:
        telemetry.shutdown()


class Gateway:
    """Everything that one gateway process holds, made inside its event loop."""

    def __init__(self, config: GatewayConfig, bundle: Bundle) -> None:
        self._config = config
        with readable(bundle):
            facts = BundleFacts.from_json(bundle.manifest.facts)
            self._n_items = facts.items
            self._clock: Clock = (
                WallClock() if config.clock == "wall" else FixedClock(facts.as_of_s)
            )
            self._bundle = ServedBundle(
                version=bundle.version,
                rules=ItemRules(
                    keys=ItemKeys.open(bundle.path),
                    traits=ItemTraits.open(bundle.path),
                    rights=MarketRights.open(bundle.path),
                ),
                popular=Popularity.open(bundle.path).rows,
            )
            self._history = BundleHistoryStore.open(bundle.path)
            self._texts = ItemTexts.open(bundle.path)
        self._closing = AsyncExitStack()
        self._recommender: Recommender | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Open the channels, start watching the switches and add the servicer."""
        switches = ControlFileSwitches(
            self._config.control_file, [source.name for source in self._config.sources]
        )
        watching = asyncio.ensure_future(switches.watch())
        self._closing.callback(watching.cancel)
        recommender = self._recommender = self._wire(switches)
        servicer = RecommendationServicer(recommender, self._texts)
        gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(servicer, server)

    async def warm(self) -> None:
        """Answer a few requests before anybody asks, so that channels are connected."""
        ask = Ask("", 20, "", tuple(self._texts.item_id(row) for row in range(5)), ())
        for _ in range(WARM_REQUESTS):
            if self._recommender is not None:
                await self._recommender.recommend(ask, Budget.start(WARM_LIMIT_S, None))

    async def close(self) -> None:
        """Close the channels and stop watching."""
        await self._closing.aclose()

    def _wire(self, switches: ControlFileSwitches) -> Recommender:
        version = self._bundle.version
        return Recommender(
            bundle=self._bundle,
            history=self._history,
            sources={
                source.name: GrpcSourceClient(
                    source.name, self._open_channel(source.addresses), version, self._n_items
                )
                for source in self._config.sources
            },
            ranker=GrpcRankerClient(self._open_channel(self._config.ranker), version),
            switches=switches,
            clock=self._clock,
            limits=Limits(
                candidates_per_source=self._config.candidates_per_source,
                ranked=self._config.ranked,
            ),
        )

    def _open_channel(self, addresses: tuple[str, ...]) -> grpc.aio.Channel:
        channel = open_channel(addresses)
        self._closing.push_async_callback(channel.close)
        return channel
