"""Real candidates processes over the tiny bundle, asked over gRPC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc
from recmesh.common.v1 import common_pb2

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshkit.bundles import Bundle, open_store
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from pipeline.trending_counts import bucket_counts
from pipeline.trending_load import fill_store
from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S, dynamodb_client
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.candidates.wiring import SERVICE
from signals.bloom import build_filter
from signals.bundle import ItemKeys
from tests.integration.meshkit_children import DEADLINE_S, ROOT, free_port, wait_until
from tests.small_bundle import AS_OF_S, ITEM_IDS, TASTES, small_tables

N_ITEMS = len(ITEM_IDS)
SOURCES = ("ann", "similar", "next", "together", "trending")
NAN, INFINITY = float("nan"), float("inf")
SERVING = health_pb2.HealthCheckResponse.SERVING

Generate = candidates_pb2.GenerateRequest
History = common_pb2.History


@dataclass(frozen=True, slots=True)
class Served:
    """A process that serves one source, and a channel to it."""

    channel: grpc.Channel
    bundle: Bundle

    def generate(self, request: Generate) -> candidates_pb2.GenerateResponse:
        stub = candidates_pb2_grpc.CandidateServiceStub(self.channel)
        return stub.Generate(request, timeout=DEADLINE_S)

    def good_request(self) -> Generate:
        """A listener of the first taste asks for ten items."""
        rows = ItemKeys.open(self.bundle.path).rows_of_ids(
            [f"{TASTES[0]}-{n:02d}" for n in range(5)]
        )
        history = History(rows=rows.tolist(), ages_s=[60.0 * n for n in range(5)])
        return Generate(bundle_version=self.bundle.version, limit=10, history=history, market="SE")


@contextmanager
def started(
    source: str, bundles: Path, directory: Path, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a process; yield it and its address file; kill it at the end if it still runs."""
    address_file = directory / f"{source}.address"
    environment = {
        "RECMESH_SOURCE": source,
        "RECMESH_BUNDLES": str(bundles),
        "RECMESH_ADDRESS_FILE": str(address_file),
        "RECMESH_CLOCK": "bundle",
        **settings,
    }
    with (directory / f"{source}.errors").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.candidates"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stderr=stderr,
        )
    try:
        yield process, address_file
    finally:
        process.kill()
        process.wait()


def wait_for_address(process: subprocess.Popen[bytes], address_file: Path) -> str:
    wait_until(lambda: address_file.exists() or process.poll() is not None)
    errors = address_file.with_suffix(".errors").read_text()
    assert process.poll() is None, errors
    return address_file.read_text()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A DynamoDB in which the trends of the tiny bundle are rolled up."""
    with EmbeddedDynamodb() as engine:
        client = dynamodb_client(engine.endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
        tables = TrendingTables(DEFAULT_TABLE_PREFIX)
        create_trending_tables(client, tables)
        trends = small_tables()
        counts = bucket_counts(trends.trends, trends.texts, trends.genre_names.names())
        fill_store(DynamodbTrendingStore(client, client, tables), counts, now_s=AS_OF_S)
        yield engine.endpoint


@pytest.fixture(scope="module")
def served(
    small_bundle: Bundle, endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Served]]:
    """A process for every source; all start at once."""
    directory = tmp_path_factory.mktemp("candidates")
    store = small_bundle.path.parent
    with ExitStack() as closing:
        children = {
            source: closing.enter_context(
                started(source, store, directory, RECMESH_DYNAMODB_ENDPOINT=endpoint)
            )
            for source in SOURCES
        }
        channels = {
            source: closing.enter_context(grpc.insecure_channel(wait_for_address(*child)))
            for source, child in children.items()
        }
        yield {source: Served(channel, small_bundle) for source, channel in channels.items()}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, served: dict[str, Served]) -> Served:
    return served[request.param]


@pytest.fixture
def ann(served: dict[str, Served]) -> Served:
    return served["ann"]


def refusal(served: Served, request: Generate) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        served.generate(request)
    return caught.value


def bad_fields(error: grpc.RpcError) -> list[str]:
    """Return the fields that a refusal names, and check its code."""
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    (detail,) = rpc_status.from_call(error).details
    named = BadRequest()
    assert detail.Unpack(named)
    return [violation.field for violation in named.field_violations]


def test_a_good_request_is_answered(source: Served) -> None:
    request = source.good_request()

    answer = source.generate(request)

    assert answer.bundle_version == source.bundle.version
    assert len(answer.rows) == len(answer.scores) == request.limit
    assert len(set(answer.rows)) == request.limit
    assert not set(answer.rows) & set(request.history.rows)
    assert max(answer.rows) < N_ITEMS
    assert np.isfinite(answer.scores).all()
    assert list(answer.scores) == sorted(answer.scores, reverse=True)


def test_every_process_is_healthy_under_its_service_name(source: Served) -> None:
    stub = health_pb2_grpc.HealthStub(source.channel)
    for name in ("", SERVICE):
        request = health_pb2.HealthCheckRequest(service=name)
        assert stub.Check(request, timeout=DEADLINE_S).status == SERVING


def test_what_was_had_or_excluded_is_left_out(source: Served) -> None:
    request = source.good_request()
    first = source.generate(request)
    keys = ItemKeys.open(source.bundle.path).keys

    request.exclude_rows.extend(first.rows[:5])
    request.history.seen_filter = build_filter(keys[np.array(first.rows[5:])])
    second = source.generate(request)

    assert len(second.rows) == request.limit
    assert not set(second.rows) & set(first.rows)


def test_a_request_without_history_is_answered(source: Served) -> None:
    answer = source.generate(Generate(bundle_version=source.bundle.version, limit=5))

    assert len(answer.rows) in (0, 5)


def test_only_trending_says_how_old_its_data_is(served: dict[str, Served]) -> None:
    answers = {name: one.generate(one.good_request()) for name, one in served.items()}

    aged = [name for name, answer in answers.items() if answer.HasField("data_age")]
    assert aged == ["trending"]
    assert 0 <= answers["trending"].data_age.ToTimedelta().total_seconds() < DEADLINE_S
    assert not answers["trending"].is_stale


@pytest.mark.parametrize("version", ["", "20200101T000000Z-000000000000", "x" * 5000])
def test_a_version_that_is_not_held_is_refused_with_those_that_are(
    source: Served, version: str
) -> None:
    request = source.good_request()
    request.bundle_version = version

    error = refusal(source, request)

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert source.bundle.version in str(error.details())


Spoil = Callable[[Generate], None]


def change(**fields: Any) -> Spoil:
    return lambda request: request.MergeFrom(Generate(**fields))


def replace_history(**fields: Any) -> Spoil:
    return lambda request: request.history.CopyFrom(History(**fields))


BAD_REQUESTS: dict[str, tuple[Spoil, str]] = {
    "no limit": (lambda request: request.ClearField("limit"), "limit"),
    "limit too high": (change(limit=2001), "limit"),
    "limit far too high": (change(limit=2**32 - 1), "limit"),
    "market in lower case": (change(market="se"), "market"),
    "market of three letters": (change(market="SWE"), "market"),
    "excluded row beyond the bundle": (change(exclude_rows=[0, N_ITEMS]), "exclude_rows"),
    "excluded row far beyond": (change(exclude_rows=[2**32 - 1]), "exclude_rows"),
    "too many excluded": (change(exclude_rows=[0] * 1001), "exclude_rows"),
    "row beyond the bundle": (replace_history(rows=[N_ITEMS], ages_s=[0]), "history.rows"),
    "row far beyond": (replace_history(rows=[2**32 - 1], ages_s=[0]), "history.rows"),
    "too many plays": (replace_history(rows=[0] * 201, ages_s=[0] * 201), "history.rows"),
    "age not a number": (replace_history(rows=[0, 1], ages_s=[0, NAN]), "history.ages_s"),
    "age infinite": (replace_history(rows=[0], ages_s=[INFINITY]), "history.ages_s"),
    "age negative": (replace_history(rows=[0], ages_s=[-1]), "history.ages_s"),
    "ages missing": (replace_history(rows=[0, 1]), "history.ages_s"),
    "filter of an odd size": (replace_history(seen_filter=bytes(300)), "history.seen_filter"),
    "filter too long": (replace_history(seen_filter=bytes(2**17)), "history.seen_filter"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_field_is_refused_by_name(source: Served, name: str) -> None:
    spoil, field = BAD_REQUESTS[name]
    request = source.good_request()
    spoil(request)

    assert bad_fields(refusal(source, request)) == [field]


def test_every_bad_field_is_named_at_once(ann: Served) -> None:
    request = Generate(
        bundle_version=ann.bundle.version,
        limit=0,
        market="??",
        exclude_rows=[N_ITEMS],
        history=History(rows=[N_ITEMS], ages_s=[NAN], seen_filter=b"x"),
    )

    assert bad_fields(refusal(ann, request)) == [
        "limit",
        "history.rows",
        "history.ages_s",
        "history.seen_filter",
        "exclude_rows",
        "market",
    ]


def test_requests_at_their_limits_are_answered(source: Served) -> None:
    request = Generate(
        bundle_version=source.bundle.version,
        limit=2000,
        market="ZZ",
        exclude_rows=[N_ITEMS - 1] * 1000,
        history=History(rows=[0] * 200, ages_s=[3e38] * 200, seen_filter=bytes(65_536)),
    )

    answer = source.generate(request)

    assert 0 < len(answer.rows) < N_ITEMS


def test_a_process_serves_on_after_bad_requests(source: Served) -> None:
    for spoil, _ in BAD_REQUESTS.values():
        request = source.good_request()
        spoil(request)
        refusal(source, request)

    assert len(source.generate(source.good_request()).rows) == 10


def test_trending_without_its_store_serves_and_says_so(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = {"RECMESH_DYNAMODB_ENDPOINT": endpoint}
    with ExitStack() as closing:
        store = small_bundle.path.parent
        child = closing.enter_context(started("trending", store, tmp_path, **settings))
        channel = closing.enter_context(grpc.insecure_channel(wait_for_address(*child)))
        served = Served(channel, small_bundle)
        error = refusal(served, served.good_request())

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "dependency unavailable"


@pytest.fixture
def own_store(small_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the tiny bundle, to be damaged."""
    shutil.copytree(small_bundle.path.parent, tmp_path / "bundles")
    return Bundle(tmp_path / "bundles" / small_bundle.version, small_bundle.manifest)


def end_of(source: str, bundles: Path, directory: Path, **settings: str) -> str:
    """Return what a process says that refuses to start."""
    with started(source, bundles, directory, **settings) as (process, address_file):
        assert process.wait(DEADLINE_S) == 1
    assert not address_file.exists()
    return address_file.with_suffix(".errors").read_text()


def pinned(bundle: Bundle) -> dict[str, str]:
    """Return the settings of a process that serves this version or ends."""
    return {"RECMESH_BUNDLE_VERSION": bundle.version}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("source_name", "file", "damage"),
    [
        ("ann", "annoy.index", flip_a_bit),
        ("similar", "Neighbours.scores.npy", shorten),
        ("trending", "ItemTraits.genres.npy", Path.unlink),
    ],
)
def test_a_damaged_bundle_is_refused_by_file(
    own_store: Bundle,
    tmp_path: Path,
    source_name: str,
    file: str,
    damage: Callable[[Path], None],
) -> None:
    damage(own_store.path / file)

    said = end_of(source_name, own_store.path.parent, tmp_path, **pinned(own_store))

    assert str(own_store.path / file) in said
    assert "Traceback" not in said


def test_a_bundle_that_was_published_with_a_bad_array_is_refused_by_file(tmp_path: Path) -> None:
    tables = small_tables()

    def write(directory: Path) -> None:
        tables.write(directory)
        shorten(directory / "Neighbours.rows.npy")

    now = datetime.fromtimestamp(AS_OF_S, UTC)
    bundle = open_store(tmp_path / "bundles").publish(write, tables.facts.to_json(), now=now)

    said = end_of("similar", tmp_path / "bundles", tmp_path, **pinned(bundle))

    assert str(bundle.path / "Neighbours.rows.npy") in said
    assert "Traceback" not in said


def test_an_endpoint_that_is_none_is_refused_by_variable(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    settings = {"RECMESH_DYNAMODB_ENDPOINT": "nowhere"}

    said = end_of("trending", small_bundle.path.parent, tmp_path, **settings)

    assert "RECMESH_DYNAMODB_ENDPOINT='nowhere'" in said
    assert "Traceback" not in said


def test_a_source_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    said = end_of("psychic", tmp_path, tmp_path)

    assert "RECMESH_SOURCE='psychic'" in said
    assert all(name in said for name in SOURCES)
    assert "Traceback" not in said
