"""A mesh of real processes that sends its telemetry to a real receiver, and is asked for all of it.

One gateway has real leaves. Another has leaves that do what they are told, so that every way to
fail can be had at will; it samples only the traces that its callers sampled.
"""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from recmesh.candidates.v1 import candidates_pb2_grpc
from recmesh.gateway.v1 import gateway_pb2_grpc
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshkit.bundles import Bundle
from meshkit.bundles.manifest import MANIFEST
from meshkit.bundles.store import POINTER
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, bulk_client
from pipeline.history_load import load_histories
from pipeline.trending_counts import bucket_counts
from pipeline.trending_load import fill_store
from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S, dynamodb_client
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.candidates.domain.trending import GLOBAL, buckets_in_window
from services.gateway.adapters.dynamodb_history_writer import DynamodbHistoryWriter
from services.gateway.adapters.history_table import (
    PACKED,
    HistoryTable,
    create_history_table,
    user_attribute,
)
from signals.keys import item_key
from tests.broken_bundles import publish_without_forest
from tests.integration.meshkit_children import Child, wait_until
from tests.integration.otlp_receiver import OtlpReceiver
from tests.integration.scripted_leaf import ScriptedLeaf, Step, fail, prefer_high_rows, propose
from tests.integration.service_process import started_service
from tests.small_bundle import AS_OF_S, small_tables

SOURCES = ("ann", "similar", "trending")
HISTORIES = HistoryTable(DEFAULT_TABLE_PREFIX)
SLOW_S = 0.3
"""Beyond what the scripted gateway takes for slow: a fiftieth of 5 s."""

Stub = gateway_pb2_grpc.RecommendationServiceStub


@dataclass(frozen=True, slots=True)
class Scripted:
    """The gateway whose leaves do what they are told."""

    stub: Stub
    address: str
    sources: Mapping[str, tuple[ScriptedLeaf, ...]]
    ranker: ScriptedLeaf
    control_file: Path

    def reset(self) -> None:
        for leaf in (*(one for workers in self.sources.values() for one in workers), self.ranker):
            leaf.reset()

    def tell(self, source: str, step: Step) -> None:
        for worker in self.sources[source]:
            worker.step = step

    def switch_off(self, *sources: str) -> None:
        self.control_file.write_text(json.dumps({"disabled_sources": sources}))


@dataclass(frozen=True, slots=True)
class TelemetryMesh:
    """Everything that runs."""

    receiver: OtlpReceiver
    bundle: Bundle
    """The only good one of the store that all processes serve."""
    whole: Stub
    """Of the gateway with real leaves."""
    scripted: Scripted
    plain_version: str
    """Of the bundle that the process `plain-ranker` holds: one without a forest."""
    children: Mapping[str, Child]
    channels: Mapping[str, grpc.Channel]
    """To each process."""
    dynamodb: EmbeddedDynamodb

    def generate(self, source: str, request: Any, timeout_s: float) -> Any:
        stub = candidates_pb2_grpc.CandidateServiceStub(self.channels[source])
        return stub.Generate(request, timeout=timeout_s)

    def rank(self, request: Any, timeout_s: float) -> Any:
        return ranker_pb2_grpc.RankerServiceStub(self.channels["ranker"]).Rank(
            request, timeout=timeout_s
        )

    def rank_without_forest(self, timeout_s: float) -> Any:
        """Ask the ranker whose bundle has no forest, in a trace that is kept."""
        request = ranker_pb2.RankRequest(bundle_version=self.plain_version, rows=range(3))
        return ranker_pb2_grpc.RankerServiceStub(self.channels["plain-ranker"]).Rank(
            request, timeout=timeout_s, metadata=sampled(is_sampled=True)
        )

    def stop(self) -> None:
        """Have every process export what is left, and end."""
        for child in self.children.values():
            child.process.send_signal(signal.SIGTERM)
        for name, child in self.children.items():
            assert child.exit_status() == 0, f"{name}: {child.errors.read_text()}"


def sampled(is_sampled: bool) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a caller whose trace is sampled, or is not."""
    return (("traceparent", f"00-{time.time_ns():032x}-{1:016x}-{is_sampled:02x}"),)


def eventually(is_so: Callable[[], object]) -> None:
    """Try until it is so; a refused or late call is no reason to give up."""

    def tried() -> bool:
        try:
            return bool(is_so())
        except grpc.RpcError:
            return False

    wait_until(tried)


@contextmanager
def telemetry_mesh(small_bundle: Bundle, directory: Path) -> Iterator[TelemetryMesh]:
    """Run the mesh until the block ends."""
    store = directory / "bundles"
    shutil.copytree(small_bundle.path.parent, store)
    bundle = Bundle(store / small_bundle.version, small_bundle.manifest)
    # Scripted leaves end first: one whose watchers were killed may never end.
    with ExitStack() as running, ExitStack() as leaves:
        receiver = running.enter_context(OtlpReceiver().serving())
        dynamodb = running.enter_context(EmbeddedDynamodb())
        common = _settings(store, dynamodb.endpoint, receiver.endpoint)
        processes = _Processes(directory, common, running)
        scripts = _Scripts(bundle.version, leaves)
        _start_whole(processes, scripts)
        plain_version = _start_plain_ranker(processes, bundle)
        sources, ranker, control_file = _start_scripted(processes, scripts)
        _fill(dynamodb.endpoint)
        channels = processes.channels()
        yield TelemetryMesh(
            receiver=receiver,
            bundle=bundle,
            plain_version=plain_version,
            whole=Stub(channels["whole"]),
            scripted=Scripted(
                Stub(channels["scripted"]),
                processes.addresses["scripted"],
                sources,
                ranker,
                control_file,
            ),
            children=processes.children,
            channels=channels,
            dynamodb=dynamodb,
        )


class _Processes:
    """Starts the mesh's processes, which all come up at the same time."""

    def __init__(self, directory: Path, common: Mapping[str, str], running: ExitStack) -> None:
        self.directory = directory
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        self._common = common
        self._running = running

    def start(self, name: str, service: str, **settings: str) -> None:
        folder = self.directory / name
        folder.mkdir()
        self.children[name], self.addresses[name] = self._running.enter_context(
            started_service(folder, service, **{**self._common, **settings})
        )

    def channels(self) -> dict[str, grpc.Channel]:
        """Return a channel to each process, once all serve."""
        for child in self.children.values():
            child.wait_until_serving()
        return {
            name: self._running.enter_context(grpc.insecure_channel(address))
            for name, address in self.addresses.items()
        }


class _Scripts:
    """Starts leaves that do what they are told."""

    def __init__(self, version: str, running: ExitStack) -> None:
        self._version = version
        self._running = running

    def leaf(self, step: Step) -> ScriptedLeaf:
        return self._running.enter_context(ScriptedLeaf(step, self._version).serving())


def _settings(store: Path, dynamodb: str, receiver: str) -> dict[str, str]:
    return {
        "RECMESH_BUNDLES": str(store),
        "RECMESH_CLOCK": "bundle",
        "RECMESH_VERIFIER": "none",
        "RECMESH_POLL_S": "0.1",
        "RECMESH_DYNAMODB_ENDPOINT": dynamodb,
        "RECMESH_TRENDING_REFRESH_S": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


def _start_whole(processes: _Processes, scripts: _Scripts) -> None:
    """Start a gateway with real leaves, two of which have a second worker that is away."""
    # So short a queue overflows as soon as the receiver keeps its senders waiting.
    queue = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    processes.start("ann", "candidates", RECMESH_SOURCE="ann", **queue)
    for source in ("similar", "next", "together"):
        processes.start(source, "candidates", RECMESH_SOURCE=source)
    processes.start("trending", "candidates", RECMESH_SOURCE="trending")
    processes.start("ranker", "ranker")
    away = scripts.leaf(fail(grpc.StatusCode.UNAVAILABLE, "away")).address
    at = processes.addresses
    # So hasty a gateway gets no history by its first read, and any by its second.
    histories = {
        "RECMESH_HISTORY": "dynamodb",
        "RECMESH_HISTORY_TIMEOUT_S": "0.001",
        "RECMESH_HISTORY_READ_TIMEOUT_S": "20",
        "RECMESH_HISTORY_THREADS": "1",
        "RECMESH_HISTORY_WAITING": "0",
    }
    processes.start(
        "whole",
        "gateway",
        **histories,
        RECMESH_SOURCES=f"ann={at['ann']},similar={away};{at['similar']},next={at['next']},"
        f"together={at['together']},trending={at['trending']}",
        RECMESH_RANKER=f"{away};{at['ranker']}",
    )


def _start_plain_ranker(processes: _Processes, bundle: Bundle) -> str:
    """Start a ranker beside the mesh, of a bundle without a forest; return its version."""
    store = processes.directory / "plain-bundles"
    store.mkdir()
    version = publish_without_forest(bundle.path, store).path.name
    settings = {"RECMESH_BUNDLES": str(store), "RECMESH_BUNDLE_VERSION": version}
    processes.start("plain-ranker", "ranker", **settings)
    return version


def _start_scripted(
    processes: _Processes, scripts: _Scripts
) -> tuple[dict[str, tuple[ScriptedLeaf, ...]], ScriptedLeaf, Path]:
    """Start a gateway with scripted leaves; return them and the file of its switches."""
    sources = {
        "ann": (scripts.leaf(propose([10, 11, 12])), scripts.leaf(propose([10, 11, 12]))),
        "similar": (scripts.leaf(propose([12, 13])),),
        "next": (scripts.leaf(propose([12])),),
        "together": (scripts.leaf(propose([13])),),
        "trending": (scripts.leaf(propose([14, 15])),),
    }
    ranker = scripts.leaf(prefer_high_rows)
    control_file = processes.directory / "control.json"
    processes.start(
        "scripted",
        "gateway",
        RECMESH_SOURCES=",".join(
            f"{name}={';'.join(one.address for one in workers)}"
            for name, workers in sources.items()
        ),
        RECMESH_RANKER=ranker.address,
        RECMESH_CONTROL_FILE=str(control_file),
        RECMESH_SLOW_SHARE="0.02",
        RECMESH_KEPT_PER_S="1000",
        OTEL_TRACES_SAMPLER="parentbased_always_off",
    )
    return sources, ranker, control_file


def point_to_a_broken_bundle(good: Bundle) -> None:
    """Have the store name a bundle that nobody can load."""
    broken = good.path.with_name("broken")
    shutil.copytree(good.path, broken)
    (broken / MANIFEST).write_text("{}")
    (good.path.parent / POINTER).write_text("broken\n")


def damage_trends(endpoint: str) -> None:
    """Have what trends everywhere be written in a form that nobody can read."""
    client = dynamodb_client(endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
    row = {
        "pk": {"S": GLOBAL.key},
        "sk": {"N": str(buckets_in_window(AS_OF_S)[-1])},
        "row_format": {"N": "99"},
    }
    client.put_item(TableName=TrendingTables(DEFAULT_TABLE_PREFIX).top, Item=row)


def damage_history(endpoint: str, user_id: str) -> None:
    """Have what is stored of a user be what nobody can read."""
    item = {**user_attribute(item_key(user_id)), PACKED: {"B": b"of a newer program"}}
    bulk_client(endpoint).put_item(TableName=HISTORIES.name, Item=item)


def _fill(endpoint: str) -> None:
    client = dynamodb_client(endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
    tables = TrendingTables(DEFAULT_TABLE_PREFIX)
    create_trending_tables(client, tables)
    trends = small_tables()
    counts = bucket_counts(trends.trends, trends.texts, trends.genre_names.names())
    fill_store(DynamodbTrendingStore(client, client, tables), counts, now_s=AS_OF_S)
    create_history_table(client, HISTORIES)
    load_histories(trends.histories, trends.keys, DynamodbHistoryWriter(client, HISTORIES))
