"""Composition root of the gateway: the only file that names concrete adapters."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
from recmesh.common.v1 import status_pb2, status_pb2_grpc
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from meshkit import telemetry
from meshkit.addresses import is_numeric
from meshkit.admission import Admission
from meshkit.bundles import Bundle, readable
from meshkit.call_log import CallLog
from meshkit.channels import open_channel
from meshkit.clock import Clock, FixedClock, WallClock
from meshkit.config import PREFIX, ConfigError
from meshkit.deadlines import Budget
from meshkit.dynamodb import DynamodbMisconfiguredError
from meshkit.held_server import keeper_of, require_servable
from meshkit.logs import setup_logs
from meshkit.server import serve_aio
from meshkit.shelf import Shelf
from meshkit.telemetry import metrics
from meshkit.telemetry.admission_metrics import watch_admission
from services.gateway.adapters import grpc_ranker_client, grpc_source_client
from services.gateway.adapters.answer_metrics import AnswerMetrics
from services.gateway.adapters.bundle_history_store import BundleHistoryStore
from services.gateway.adapters.control_file_switches import ControlFileSwitches
from services.gateway.adapters.dynamodb_history_reader import DynamodbHistoryReader
from services.gateway.adapters.dynamodb_history_store import DynamodbHistoryStore
from services.gateway.adapters.grpc_ranker_client import GrpcRankerClient
from services.gateway.adapters.grpc_source_client import GrpcSourceClient
from services.gateway.adapters.history_cache import HistoryCache
from services.gateway.adapters.history_metrics import HistoryMetrics
from services.gateway.adapters.history_reads import HistoryReads, ReadLimits
from services.gateway.adapters.history_table import HistoryTable
from services.gateway.adapters.leaf_call import retry_codes
from services.gateway.adapters.leaf_metrics import LeafMetrics
from services.gateway.adapters.leaf_versions import LeafVersions
from services.gateway.adapters.messages import HistoryWriter
from services.gateway.adapters.recording_trail import RecordingTrail
from services.gateway.adapters.rollout import Rollout
from services.gateway.config import GatewayConfig, HistorySettings
from services.gateway.domain.failures import call_policy
from services.gateway.domain.filters import ItemRules, filter_candidates
from services.gateway.domain.hedging import Hedging
from services.gateway.domain.history import HistoryStore, Plays, compose_history
from services.gateway.domain.merge import merge
from services.gateway.domain.pins import Edition, Pins
from services.gateway.domain.recommend import RANKER, Limits, Recommender, ServedBundle
from services.gateway.domain.values import Ask, SourceAnswer, SourceStatus, Subject
from services.gateway.servicer import RecommendationServicer
from services.status import describe
from signals.bloom import MIN_BYTES
from signals.bundle import ItemKeys, ItemTexts, ItemTraits, MarketRights, Popularity
from signals.bundle_facts import BundleFacts

_log = logging.getLogger(__name__)

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name
LEAF_METHODS = (grpc_source_client.METHOD, grpc_ranker_client.METHOD)

WAIT_S = 0.05
WARM_REQUESTS = 3
WARM_LIMIT_S = 2.0  # longer than any channel needs to connect; a dead leaf does not hold us up


def serve(config: GatewayConfig) -> None:
    """Serve until told to stop. Raises ConfigError, and BundleError for a pinned version."""
    setup_logs("gateway")
    telemetry.setup("gateway", str(os.getpid()), keeps_served=True)
    gateway = Gateway(config)
    try:
        serve_aio(
            config.server,
            gateway.register,
            service_names=[SERVICE],
            warm=gateway.warm,
            on_stop=gateway.close,
            admission=gateway.admission,
        )
    finally:
        telemetry.shutdown()


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """What the gateway itself reads of one bundle."""

    served: ServedBundle
    history: BundleHistoryStore
    texts: ItemTexts
    facts: BundleFacts


class Gateway(status_pb2_grpc.StatusServiceServicer):
    """Everything that one gateway process holds, made inside its event loop."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.admission = Admission()
        self._call_log = CallLog(config.call_log, "gateway")
        self._shelf = Shelf[OpenedBundle]()
        self._pins = Pins()
        self._keeper = keeper_of(self._shelf, config.stock, _open, served=self._pinned)
        sources = [source.name for source in config.sources]
        self._answer_metrics = AnswerMetrics(metrics.meter(), sources)
        self._leaf_metrics = LeafMetrics(metrics.meter(), [*sources, RANKER], LEAF_METHODS)
        watch_admission(metrics.meter(), self.admission)
        self._reads = _history_reads(config.history)
        self._channels: dict[str, AsyncExitStack] = {}
        self._hedging: dict[str, Hedging] = {}
        self._closing = AsyncExitStack()
        self._rollout: Rollout[OpenedBundle]
        self._switches: ControlFileSwitches

    def register(self, server: grpc.aio.Server) -> None:
        """Start watching the switches and the leaves, and add the servicers."""
        self._switches = ControlFileSwitches(
            self._config.control_file, [source.name for source in self._config.sources]
        )
        self._run(self._switches.watch())
        leaves = LeafVersions(
            [
                *(address for source in self._config.sources for address in source.addresses),
                *self._config.ranker,
            ]
        )
        self._closing.push_async_callback(leaves.close)
        self._rollout = Rollout(
            self._shelf,
            leaves,
            self._pins,
            issue=self._issue,
            withdraw=self._withdraw,
            call_log=self._call_log,
        )
        servicer = RecommendationServicer(
            self._pins, self.admission, self._call_log, self._answer_metrics.answered
        )
        gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(servicer, server)
        status_pb2_grpc.add_StatusServiceServicer_to_server(self, server)

    async def Describe(  # noqa: N802 - gRPC's own name
        self, _request: status_pb2.DescribeRequest, _context: object
    ) -> status_pb2.DescribeResponse:
        """Return which versions are held, and which one requests are pinned to."""
        return describe(self._shelf, self._pinned())

    async def warm(self) -> None:
        """Wait for something to serve, and pin it."""
        self._keeper.start()
        self._closing.callback(self._keeper.close)
        while self._keeper.waiting():
            require_servable(self._config.stock, self._shelf)
            await asyncio.sleep(WAIT_S)
        if self._reads is not None:
            await self._reads.warm(WARM_LIMIT_S)
        await self._rollout.start()
        self._run(self._rollout.follow(self._config.stock.shelf.poll_s))

    async def close(self) -> None:
        """Close the channels, stop watching and reading."""
        await self._closing.aclose()
        if self._reads is not None:
            self._reads.close()
        for channels in self._channels.values():
            await channels.aclose()

    def _pinned(self) -> str | None:
        """Return the version that requests are answered from."""
        return None if self._pins.current is None else self._pins.current.version

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._closing.callback(asyncio.ensure_future(work).cancel)

    async def _issue(self, opened: OpenedBundle) -> Edition:
        """Return the edition of a bundle, its channels connected by a few requests."""
        self._say_what_is_not_asked(opened)
        recommender = self._wire(opened)
        ask = Ask("", 20, "", tuple(opened.texts.item_id(row) for row in range(5)), ())
        with telemetry.process_recorder().silent():
            for _ in range(WARM_REQUESTS):
                await recommender.recommend(ask, Budget.start(WARM_LIMIT_S, None))
        return Edition(recommender, opened.texts)

    def _say_what_is_not_asked(self, opened: OpenedBundle) -> None:
        asked = {source.name for source in self._config.sources}
        if unasked := [name for name in opened.facts.sources if name not in asked]:
            _log.warning(
                "bundle %s was trained on sources that %sSOURCES does not name: %s",
                opened.served.version,
                PREFIX,
                ", ".join(unasked),
            )

    async def _withdraw(self, edition: Edition) -> None:
        await self._channels.pop(edition.version).aclose()

    def _wire(self, opened: OpenedBundle) -> Recommender:
        version = opened.served.version
        is_wall = self._config.clock == "wall"
        clock: Clock = WallClock() if is_wall else FixedClock(opened.facts.as_of_s)
        histories = HistoryWriter()
        return Recommender(
            bundle=opened.served,
            history=self._history_of(opened),
            sources={
                source.name: GrpcSourceClient(
                    source.name,
                    self._open_channel(source.name, source.addresses, version),
                    version,
                    opened.facts.items,
                    self._hedging_of(source.name, source.addresses),
                    self._leaf_metrics,
                    histories,
                )
                for source in self._config.sources
            },
            ranker=GrpcRankerClient(
                self._open_channel(RANKER, self._config.ranker, version),
                version,
                self._hedging_of(RANKER, self._config.ranker),
                self._leaf_metrics,
                histories,
            ),
            switches=self._switches,
            clock=clock,
            limits=Limits(
                candidates_per_source=self._config.candidates_per_source,
                ranked=self._config.ranked,
            ),
            trail=RecordingTrail(),
        )

    def _history_of(self, opened: OpenedBundle) -> HistoryStore:
        if self._reads is None:
            return opened.history
        return DynamodbHistoryStore(
            self._reads, opened.served.rules.keys, self._config.history.history_timeout_s
        )

    def _open_channel(
        self, leaf: str, addresses: tuple[str, ...], version: str
    ) -> grpc.aio.Channel:
        retry_on = retry_codes(call_policy(leaf))
        channel = open_channel(addresses, health_service=version, retry_on=retry_on)
        channels = self._channels.setdefault(version, AsyncExitStack())
        channels.push_async_callback(channel.close)
        return channel

    def _hedging_of(self, leaf: str, addresses: tuple[str, ...]) -> Hedging | None:
        """Return what is known of a leaf's latencies, whatever the version; None: do not hedge."""
        # A second call to a lone worker would only queue behind the first.
        has_choice = len(addresses) > 1 or not is_numeric(addresses[0])
        if not (self._config.hedging and call_policy(leaf).hedges and has_choice):
            return None
        return self._hedging.setdefault(leaf, Hedging())


def _history_reads(settings: HistorySettings) -> HistoryReads | None:
    """Return what reads histories of DynamoDB; None: the bundle's will do. Raises ConfigError."""
    if settings.history == "bundle":
        return None
    try:
        reader = DynamodbHistoryReader.connect(
            settings.dynamodb_endpoint,
            HistoryTable(settings.table_prefix),
            connect_timeout_s=settings.history_connect_timeout_s,
            read_timeout_s=settings.history_read_timeout_s,
            connections=settings.history_threads,
        )
    except DynamodbMisconfiguredError as exc:
        variable = f"{PREFIX}DYNAMODB_ENDPOINT"
        raise ConfigError(f"{variable}={settings.dynamodb_endpoint or ''!r}: {exc}") from exc
    return HistoryReads(
        reader.read,
        HistoryCache(settings.history_cache_users, settings.history_cache_s),
        ReadLimits(settings.history_threads, settings.history_waiting),
        HistoryMetrics(metrics.meter()),
    )


def _open(bundle: Bundle) -> OpenedBundle:
    with readable(bundle):
        opened = OpenedBundle(
            served=ServedBundle(
                version=bundle.version,
                rules=ItemRules(
                    keys=ItemKeys.open(bundle.path),
                    traits=ItemTraits.open(bundle.path),
                    rights=MarketRights.open(bundle.path),
                ),
                popular=Popularity.open(bundle.path).rows,
            ),
            history=BundleHistoryStore.open(bundle.path),
            texts=ItemTexts.open(bundle.path),
            facts=BundleFacts.from_json(bundle.manifest.facts),
        )
    _compile(opened.served.rules)
    return opened


def _compile(rules: ItemRules) -> None:
    """Compile what every request runs, or read it from numba's cache, though no leaf may answer."""
    rows = np.arange(min(len(rules.keys.keys), 2), dtype=np.uint32)
    merged = merge([SourceAnswer("none", SourceStatus.OK, rows, np.ones(len(rows), np.float32))])
    plays = Plays(rows, np.zeros(len(rows), dtype=np.int64))
    compose_history(plays, rows, rules.keys.keys, now_s=0.0)
    stored = replace(plays, seen_filter=bytes(MIN_BYTES))
    history = compose_history(stored, rows, rules.keys.keys, now_s=0.0)
    filter_candidates(merged, Subject(history, rows, market="", ignored_item_ids=0), rules)
