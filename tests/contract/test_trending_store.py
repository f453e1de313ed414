"""What every trending store does: the one in memory and the one in DynamoDB."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S, dynamodb_client
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_lease import LEASE_S
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    TOP_ITEMS,
    WINDOW_S,
    BucketCounts,
    BucketTop,
    RollUp,
    RollUpOutcome,
    Segment,
    TrendingRowInvalidError,
    TrendingStore,
    TrendingStoreMisconfiguredError,
    TrendingStoreThrottledError,
    TrendingStoreUnavailableError,
    bucket_of,
)
from signals.keys import item_key, item_keys
from tests.contract.in_memory_trending_store import InMemoryTrendingStore, TrendingMemory
from tests.contract.unprocessed_proxy import UnprocessedProxy

NOW_S = 1_700_000_000.0
BUCKET = bucket_of(NOW_S)
GERMANY = Segment("DE")

MakeStore = Callable[..., TrendingStore]


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with EmbeddedDynamodb() as engine:
        yield engine.endpoint


@pytest.fixture
def tables() -> TrendingTables:
    return TrendingTables(f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def engine_client(endpoint: str) -> Any:
    # The engine is slow where DynamoDB is not: reads here get the time that bulk work gets.
    return dynamodb_client(endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)


@pytest.fixture
def client(engine_client: Any, tables: TrendingTables) -> Any:
    create_trending_tables(engine_client, tables)
    return engine_client


@pytest.fixture
def dynamodb_store(client: Any, tables: TrendingTables) -> MakeStore:
    def make(**settings: Any) -> TrendingStore:
        return DynamodbTrendingStore(client, client, tables, **settings)

    return make


@pytest.fixture(params=["memory", "dynamodb"])
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    """Make stores that share what they hold."""
    if request.param == "dynamodb":
        make: MakeStore = request.getfixturevalue("dynamodb_store")
        return make
    memory = TrendingMemory()
    return lambda **settings: InMemoryTrendingStore(memory, **settings)


@pytest.fixture
def store(make_store: MakeStore) -> TrendingStore:
    return make_store()


def counts_of(
    counts: dict[str, int], *, segment: Segment = GLOBAL, bucket: int = BUCKET
) -> BucketCounts:
    return BucketCounts(segment, bucket, list(counts), list(counts.values()))


def roll_up(store: TrendingStore, *segments: Segment) -> RollUp:
    return store.roll_up(segments or [GLOBAL], [BUCKET], now_s=NOW_S)


def counts_by_key(top: BucketTop) -> dict[int, int]:
    return dict(zip(top.keys.tolist(), top.counts.tolist(), strict=True))


def keyed(counts: dict[str, int]) -> dict[int, int]:
    return {item_key(item_id): count for item_id, count in counts.items()}


def read_one(store: TrendingStore, segment: Segment = GLOBAL) -> dict[int, int]:
    (top,) = store.read_segment(segment, NOW_S)
    return counts_by_key(top)


def test_a_segment_nobody_rolled_up_reads_as_nothing(store: TrendingStore) -> None:
    assert store.read_segment(Segment("FR", "Rock"), NOW_S) == []


def test_a_top_is_ordered_by_count_then_item_id(store: TrendingStore) -> None:
    store.put_counts([counts_of({"b": 2, "a": 2, "c": 9})], loader="log")

    result = roll_up(store)

    (top,) = store.read_segment(GLOBAL, NOW_S)
    assert result == RollUp(RollUpOutcome.DONE, 1)
    assert top.keys.tolist() == item_keys(["c", "a", "b"]).tolist()
    assert top.counts.tolist() == [9, 2, 2]
    assert (top.bucket, top.rolled_at_s) == (BUCKET, NOW_S)


def test_loading_again_counts_once(store: TrendingStore) -> None:
    for _ in range(2):
        store.put_counts([counts_of({"a": 3})], loader="log")

    roll_up(store)

    assert read_one(store) == keyed({"a": 3})


def test_a_later_load_replaces_the_bucket_in_every_segment(store: TrendingStore) -> None:
    store.put_counts(
        [counts_of({"a": 3, "b": 1}), counts_of({"a": 3}, segment=GERMANY)], loader="log"
    )

    store.put_counts([counts_of({"a": 1})], loader="log")
    roll_up(store, GLOBAL, GERMANY)

    assert read_one(store) == keyed({"a": 1})
    assert read_one(store, GERMANY) == {}


def test_a_segment_that_a_load_no_longer_names_is_emptied(store: TrendingStore) -> None:
    store.put_counts([counts_of({"a": 3}), counts_of({"a": 3}, segment=GERMANY)], loader="log")
    roll_up(store, GLOBAL, GERMANY)

    store.put_counts([counts_of({"a": 1})], loader="log")
    roll_up(store, GLOBAL)

    assert read_one(store, GERMANY) == {}


def test_a_segment_that_nobody_names_keeps_what_others_counted(store: TrendingStore) -> None:
    store.put_counts([counts_of({"a": 3}, segment=GERMANY)], loader="log")
    store.add([counts_of({"b": 2}, segment=GERMANY)])
    roll_up(store, GERMANY)

    store.put_counts([counts_of({"a": 1})], loader="log")
    roll_up(store, GLOBAL)

    assert read_one(store, GERMANY) == keyed({"b": 2})


def test_segments_with_a_top_in_the_window_are_named(store: TrendingStore) -> None:
    rock = Segment("DE", "Rock #1 *%日本")
    oldest = bucket_of(NOW_S - WINDOW_S)
    loads = [
        counts_of({"a": 1}),
        counts_of({"a": 1}, segment=rock, bucket=oldest),
        counts_of({"a": 1}, segment=Segment("FR"), bucket=oldest - 1),
    ]
    store.put_counts(loads, loader="log")

    segments = [GLOBAL, rock, Segment("FR"), Segment("never counted")]
    store.roll_up(segments, [oldest - 1, oldest, BUCKET], now_s=NOW_S)

    assert store.segments(NOW_S) == {GLOBAL, rock}


def test_a_load_leaves_other_buckets_alone(store: TrendingStore) -> None:
    store.put_counts([counts_of({"a": 3}, bucket=BUCKET - 1)], loader="log")

    store.put_counts([counts_of({"a": 1})], loader="log")
    store.roll_up([GLOBAL], [BUCKET - 1, BUCKET], now_s=NOW_S)

    tops = store.read_segment(GLOBAL, NOW_S)
    assert [counts_by_key(top) for top in tops] == [keyed({"a": 3}), keyed({"a": 1})]


def test_loaders_and_live_writers_add_up(store: TrendingStore) -> None:
    store.put_counts([counts_of({"a": 3, "b": 1})], loader="log")
    store.put_counts([counts_of({"a": 4})], loader="other log")
    store.add([counts_of({"a": 10, "c": 5})])
    store.add([counts_of({"a": 10})])

    roll_up(store)

    assert read_one(store) == keyed({"a": 27, "b": 1, "c": 5})


def test_concurrent_adds_lose_nothing(store: TrendingStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.add([counts_of({"a": 1, "b": 2})]), range(20)))

    roll_up(store)

    assert read_one(store) == keyed({"a": 20, "b": 40})


def test_live_counts_of_every_bucket_are_found(store: TrendingStore) -> None:
    buckets = [BUCKET - 1, BUCKET]
    for _ in range(12):
        for bucket in buckets:
            store.add([counts_of({"a": 1}, bucket=bucket)])

    store.roll_up([GLOBAL], buckets, now_s=NOW_S)

    tops = store.read_segment(GLOBAL, NOW_S)
    assert [counts_by_key(top) for top in tops] == [keyed({"a": 12})] * 2


def test_a_top_holds_the_highest_counts_only(store: TrendingStore) -> None:
    counts = {f"item-{number:04}": number + 1 for number in range(TOP_ITEMS + 120)}
    store.put_counts([counts_of(counts)], loader="log")

    roll_up(store)

    (top,) = store.read_segment(GLOBAL, NOW_S)
    assert top.counts.tolist() == list(range(TOP_ITEMS + 120, 120, -1))


def test_buckets_outside_the_window_are_not_read(store: TrendingStore) -> None:
    oldest = bucket_of(NOW_S - WINDOW_S)
    buckets = [oldest - 1, oldest, BUCKET, BUCKET + 1]
    store.put_counts([counts_of({"a": 1}, bucket=bucket) for bucket in buckets], loader="log")

    store.roll_up([GLOBAL], buckets, now_s=NOW_S)

    assert [top.bucket for top in store.read_segment(GLOBAL, NOW_S)] == [oldest, BUCKET]


def test_segments_of_similar_names_stay_apart(store: TrendingStore) -> None:
    segments = [Segment("a", "b#c"), Segment("a#b", "c"), Segment("*", "*"), GLOBAL]
    store.put_counts(
        [
            counts_of({"a": number}, segment=segment)
            for number, segment in enumerate(segments, start=1)
        ],
        loader="log",
    )

    roll_up(store, *segments)

    assert [read_one(store, segment) for segment in segments] == [
        keyed({"a": number}) for number in (1, 2, 3, 4)
    ]


def test_any_text_can_be_an_item_id(store: TrendingStore) -> None:
    counts = {'"quoted"': 1, "back\\slash": 2, "日本語": 3, "a,b": 4, "chunk-0": 5, "#": 6}
    store.put_counts([counts_of(counts)], loader="log")
    store.add([counts_of(counts)])

    roll_up(store)

    assert read_one(store) == keyed({item_id: 2 * count for item_id, count in counts.items()})


@pytest.mark.parametrize("loader", ["", "a#b"])
def test_a_loader_needs_a_name_without_hash(store: TrendingStore, loader: str) -> None:
    with pytest.raises(ValueError, match="loader"):
        store.put_counts([counts_of({"a": 1})], loader=loader)


def test_a_load_that_names_a_place_twice_is_refused(store: TrendingStore) -> None:
    with pytest.raises(ValueError, match="twice"):
        store.put_counts([counts_of({"a": 1}), counts_of({"b": 1})], loader="log")


class _Interruption:
    """A wall clock that lets something else happen at its second reading."""

    def __init__(self, act: Callable[[], None], *, later_s: float) -> None:
        self._act = act
        self._later_s = later_s
        self._readings = 0

    def __call__(self) -> float:
        self._readings += 1
        if self._readings == 2:
            self._act()
        return NOW_S if self._readings == 1 else NOW_S + self._later_s


def test_a_second_worker_is_kept_out_while_one_rolls_up(make_store: MakeStore) -> None:
    second = make_store(worker="second", wall_s=lambda: NOW_S + LEASE_S - 1)
    results: list[RollUp] = []
    interruption = _Interruption(lambda: results.append(roll_up(second)), later_s=0.0)
    first = make_store(worker="first", wall_s=interruption)

    own = roll_up(first)

    assert own == RollUp(RollUpOutcome.DONE, 1)
    assert results == [RollUp(RollUpOutcome.HELD_ELSEWHERE, 0)]


def test_a_lapsed_lease_is_taken_over_and_its_holder_stops(make_store: MakeStore) -> None:
    second = make_store(worker="second", wall_s=lambda: NOW_S + LEASE_S + 1)
    results: list[RollUp] = []
    interruption = _Interruption(lambda: results.append(roll_up(second)), later_s=LEASE_S + 2)
    first = make_store(worker="first", wall_s=interruption)

    own = roll_up(first)

    assert results == [RollUp(RollUpOutcome.DONE, 1)]
    assert own == RollUp(RollUpOutcome.LEASE_LOST, 0)


def test_a_holder_that_does_not_notice_cannot_overwrite_its_successor(
    make_store: MakeStore,
) -> None:
    second = make_store(worker="second", wall_s=lambda: NOW_S + LEASE_S + 1)
    second.put_counts([counts_of({"a": 1})], loader="log")
    results: list[RollUp] = []

    def overtake() -> None:
        results.append(second.roll_up([GLOBAL], [BUCKET], now_s=NOW_S + 1))

    first = make_store(worker="first", wall_s=_Interruption(overtake, later_s=0.0))

    own = roll_up(first)

    (top,) = second.read_segment(GLOBAL, NOW_S)
    assert results == [RollUp(RollUpOutcome.DONE, 1)]
    assert own == RollUp(RollUpOutcome.LEASE_LOST, 0)
    assert top.rolled_at_s == NOW_S + 1


def test_the_lease_is_free_after_a_roll_up(make_store: MakeStore) -> None:
    workers = [make_store(worker=name, wall_s=lambda: NOW_S) for name in ("first", "second")]

    outcomes = [roll_up(worker).outcome for worker in workers]

    assert outcomes == [RollUpOutcome.DONE, RollUpOutcome.DONE]


def test_the_lease_is_free_after_a_roll_up_that_failed(make_store: MakeStore) -> None:
    def fail() -> None:
        raise ConnectionError("broken off")

    first = make_store(worker="first", wall_s=_Interruption(fail, later_s=0.0))
    with pytest.raises(ConnectionError):
        roll_up(first)

    retried = roll_up(make_store(worker="second", wall_s=lambda: NOW_S))

    assert retried.outcome is RollUpOutcome.DONE


# What only the store in DynamoDB has to get right.


def test_tops_of_several_pages_are_read_whole(dynamodb_store: MakeStore) -> None:
    store = dynamodb_store()
    buckets = range(BUCKET - 5, BUCKET + 1)
    # 500 ids of 250 bytes, with quotes escaped, are 240 KB; a page ends at 1 MB.
    counts = {f"{number:05}" + '"' * 245: number + 1 for number in range(TOP_ITEMS)}
    store.put_counts([counts_of(counts, bucket=bucket) for bucket in buckets], loader="log")

    store.roll_up([GLOBAL], buckets, now_s=NOW_S)

    tops = store.read_segment(GLOBAL, NOW_S)
    assert [top.bucket for top in tops] == list(buckets)
    assert all(counts_by_key(top) == keyed(counts) for top in tops)


def test_live_counts_of_several_pages_are_summed_whole(
    client: Any, tables: TrendingTables, dynamodb_store: MakeStore
) -> None:
    store = dynamodb_store()
    store.add([counts_of({"0": 1})])
    (live,) = (row for row in client.scan(TableName=tables.counts)["Items"] if "n" in row)
    ballast = {"S": "x" * 50_000}
    for at in range(0, 50, 25):
        puts = [
            {"PutRequest": {"Item": {**live, "sk": {"S": str(number)}, "ballast": ballast}}}
            for number in range(at, at + 25)
        ]
        client.batch_write_item(RequestItems={tables.counts: puts})

    roll_up(store)

    assert read_one(store) == keyed({str(number): 1 for number in range(50)})


def test_more_segments_than_one_call_reads_are_rolled_up(dynamodb_store: MakeStore) -> None:
    store = dynamodb_store()
    segments = [Segment(f"market-{number}") for number in range(130)]
    store.put_counts([counts_of({"a": 1}, segment=segment) for segment in segments], loader="log")

    result = roll_up(store, *segments)

    assert result == RollUp(RollUpOutcome.DONE, 130)
    assert store.segments(NOW_S) == set(segments)
    assert read_one(store, segments[-1]) == keyed({"a": 1})


def test_rows_left_unprocessed_are_asked_for_again(endpoint: str, tables: TrendingTables) -> None:
    with UnprocessedProxy(endpoint, refusals=3) as proxy:
        client = dynamodb_client(proxy.endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
        create_trending_tables(client, tables)
        store = DynamodbTrendingStore(client, client, tables, first_pause_s=0.001)
        segments = [GLOBAL, GERMANY, Segment("FR"), Segment("SE")]
        store.put_counts([counts_of({"a": 1}, segment=one) for one in segments], loader="log")
        refused_writes = proxy.refused
        proxy.allow(refusals=3)

        roll_up(store, *segments)

        assert [read_one(store, segment) for segment in segments] == [keyed({"a": 1})] * 4
    assert (refused_writes, proxy.refused) == (3, 6)


def test_rows_left_unprocessed_again_and_again_fail_as_throttled(
    endpoint: str, tables: TrendingTables
) -> None:
    with UnprocessedProxy(endpoint, refusals=1_000) as proxy:
        client = dynamodb_client(proxy.endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
        create_trending_tables(client, tables)
        store = DynamodbTrendingStore(client, client, tables, first_pause_s=0.001)

        with pytest.raises(TrendingStoreThrottledError, match="unprocessed after 8 tries"):
            store.put_counts([counts_of({"a": 1})], loader="log")


@pytest.mark.parametrize("spared", [0, 1])
def test_a_broken_off_load_changes_nothing(
    client: Any, tables: TrendingTables, spared: int
) -> None:
    store = DynamodbTrendingStore(client, client, tables)
    store.put_counts([counts_of({"a": 1})], loader="log")
    with UnprocessedProxy(client.meta.endpoint_url, refusals=1_000, spared=spared) as proxy:
        slow = dynamodb_client(proxy.endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
        failing = DynamodbTrendingStore(slow, slow, tables, first_pause_s=0.001)
        load = [counts_of({"b": 5}), counts_of({"b": 5}, segment=GERMANY)]
        with pytest.raises(TrendingStoreThrottledError):
            failing.put_counts(load, loader="log")

    roll_up(store)

    assert read_one(store) == keyed({"a": 1})


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"row_format": {"N": "2"}}, "format 2"),
        ({"item_keys": {"B": b"12345678" * 2}}, "2 keys but 1 counts"),
        ({"item_keys": {"B": b"123"}}, "buffer size"),
        ({"rolled_at": {"S": "now"}}, "KeyError"),
    ],
)
def test_a_damaged_top_is_named(
    client: Any,
    tables: TrendingTables,
    dynamodb_store: MakeStore,
    damage: dict[str, Any],
    fault: str,
) -> None:
    store = dynamodb_store()
    store.put_counts([counts_of({"a": 1})], loader="log")
    roll_up(store)
    key = {"pk": {"S": GLOBAL.key}, "sk": {"N": str(BUCKET)}}
    row = client.get_item(TableName=tables.top, Key=key)["Item"]
    client.put_item(TableName=tables.top, Item={**row, **damage})

    with pytest.raises(TrendingRowInvalidError, match=rf"\*#\*, bucket {BUCKET}: .*{fault}"):
        store.read_segment(GLOBAL, NOW_S)


@pytest.mark.parametrize("expires", [True, False])
def test_rows_expire_after_the_window_or_never(
    client: Any, tables: TrendingTables, dynamodb_store: MakeStore, *, expires: bool
) -> None:
    store = dynamodb_store(expires=expires)
    store.put_counts([counts_of({"a": 1})], loader="log")
    store.add([counts_of({"a": 1})])
    roll_up(store)

    rows = [
        row
        for table in (tables.counts, tables.top)
        for row in client.scan(TableName=table)["Items"]
        if row["pk"]["S"] != "lease"
    ]

    assert len(rows) == 6  # a chunk, a live count, their shards, the top, its segment's name
    for row in rows:
        assert ("expires_at" in row) == expires
        if expires:
            assert int(row["expires_at"]["N"]) > BUCKET * BUCKET_S + WINDOW_S


def test_a_damaged_list_of_segments_is_named(
    client: Any, tables: TrendingTables, dynamodb_store: MakeStore
) -> None:
    row = {"pk": {"S": "segments"}, "sk": {"N": str(BUCKET)}, "segment_keys": {"SS": ["DE"]}}
    client.put_item(TableName=tables.top, Item=row)

    with pytest.raises(TrendingRowInvalidError, match=rf"segments .*{BUCKET}"):
        dynamodb_store().segments(NOW_S)


def test_creating_tables_again_changes_nothing(engine_client: Any, tables: TrendingTables) -> None:
    created = [create_trending_tables(engine_client, tables) for _ in range(2)]

    assert created == [[tables.counts, tables.top], []]
    for table in (tables.counts, tables.top):
        ttl = engine_client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        assert ttl["AttributeName"] == "expires_at"
        assert ttl["TimeToLiveStatus"] == "ENABLED"


def test_a_table_with_other_keys_is_refused(engine_client: Any, tables: TrendingTables) -> None:
    engine_client.create_table(
        TableName=tables.top,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )

    with pytest.raises(TrendingStoreMisconfiguredError, match=f"{tables.top} exists with other"):
        create_trending_tables(engine_client, tables)


def test_missing_tables_are_said_to_be_missing(engine_client: Any, tables: TrendingTables) -> None:
    store = DynamodbTrendingStore(engine_client, engine_client, tables)

    with pytest.raises(TrendingStoreMisconfiguredError, match="meshctl dynamodb create"):
        store.read_segment(GLOBAL, NOW_S)


def test_an_engine_that_is_gone_is_unavailable(tables: TrendingTables) -> None:
    with EmbeddedDynamodb() as engine:
        store = DynamodbTrendingStore.connect(engine.endpoint, tables)

    with pytest.raises(TrendingStoreUnavailableError):
        store.read_segment(GLOBAL, NOW_S)


def test_an_engine_that_never_answers_is_unavailable(tables: TrendingTables) -> None:
    with UnprocessedProxy("http://127.0.0.1:1", refusals=0, is_silent=True) as proxy:
        store = DynamodbTrendingStore.connect(proxy.endpoint, tables)

        with pytest.raises(TrendingStoreUnavailableError):
            store.read_segment(GLOBAL, NOW_S)
    assert proxy.requests == 2  # the attempt and its one retry


def test_how_long_a_read_waits_for_a_slow_engine_is_the_callers_choice(
    endpoint: str, engine_client: Any, tables: TrendingTables
) -> None:
    create_trending_tables(engine_client, tables)
    with UnprocessedProxy(endpoint, late=1_000, late_s=0.2) as proxy:
        hasty = DynamodbTrendingStore.connect(proxy.endpoint, tables, read_timeout_s=0.05)
        patient = DynamodbTrendingStore.connect(
            proxy.endpoint, tables, read_timeout_s=BULK_READ_TIMEOUT_S
        )

        with pytest.raises(TrendingStoreUnavailableError, match="Read timeout"):
            hasty.read_segment(GLOBAL, NOW_S)
        assert patient.read_segment(GLOBAL, NOW_S) == []
