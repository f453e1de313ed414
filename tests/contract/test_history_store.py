"""What every history store does: the bundle's, the one in memory and the one in DynamoDB."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshkit.bundles import Bundle
from meshkit.dynamodb import (
    BULK_CONNECT_TIMEOUT_S,
    BULK_READ_TIMEOUT_S,
    DynamodbMisconfiguredError,
    DynamodbTableMissingError,
    DynamodbThrottledError,
    bulk_client,
)
from pipeline.history_load import load_histories
from services.gateway.adapters.bundle_history_store import BundleHistoryStore
from services.gateway.adapters.dynamodb_history_reader import DynamodbHistoryReader
from services.gateway.adapters.dynamodb_history_store import DynamodbHistoryStore
from services.gateway.adapters.dynamodb_history_writer import (
    APPEND_TRIES,
    DynamodbHistoryWriter,
    HistoryConflictError,
)
from services.gateway.adapters.history_cache import HistoryCache
from services.gateway.adapters.history_reads import HistoryReads, ReadLimits
from services.gateway.adapters.history_table import (
    PACKED,
    HistoryTable,
    create_history_table,
    user_attribute,
)
from services.gateway.adapters.packed_history import PackedHistoryError
from services.gateway.domain.history import HistoryStore, Plays, compose_history
from services.gateway.domain.stored_history import stored_history
from services.gateway.domain.values import History, SourceStatus
from signals.bloom import contains
from signals.bundle import Histories, ItemKeys
from signals.keys import item_key
from tests.contract.in_memory_history_store import InMemoryHistoryStore
from tests.contract.unprocessed_proxy import UnprocessedProxy
from tests.small_bundle import AS_OF_S, USER_IDS

PATIENT_S = 20.0
HASTY_S = 0.01
LISTENER = USER_IDS[4]
LISTENER_KEY = item_key(LISTENER)
SEEDS = np.array([3, 5], dtype=np.uint32)


@pytest.fixture(scope="module")
def items(small_bundle: Bundle) -> ItemKeys:
    return ItemKeys.open(small_bundle.path)


@pytest.fixture(scope="module")
def histories(small_bundle: Bundle) -> Histories:
    return Histories.open(small_bundle.path)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with EmbeddedDynamodb() as engine:
        yield engine.endpoint


@pytest.fixture(scope="module")
def client(endpoint: str) -> Any:
    return bulk_client(endpoint, connections=4)


@pytest.fixture
def table(client: Any) -> HistoryTable:
    fresh = HistoryTable(f"t{uuid.uuid4().hex[:12]}")
    create_history_table(client, fresh)
    return fresh


@pytest.fixture
def writer(client: Any, table: HistoryTable) -> DynamodbHistoryWriter:
    return DynamodbHistoryWriter(client, table, first_pause_s=0.001)


@pytest.fixture
def open_store(endpoint: str, table: HistoryTable, items: ItemKeys) -> Iterator[Callable[..., Any]]:
    """Make stores over the table, each with a cache of its own."""
    opened: list[HistoryReads] = []

    def make(at: str = endpoint, *, timeout_s: float = PATIENT_S) -> DynamodbHistoryStore:
        # The engine is slow where DynamoDB is not: reads here get the time that bulk work gets.
        reader = DynamodbHistoryReader.connect(
            at,
            table,
            connect_timeout_s=BULK_CONNECT_TIMEOUT_S,
            read_timeout_s=BULK_READ_TIMEOUT_S,
            connections=2,
        )
        opened.append(HistoryReads(reader.read, HistoryCache(100, 1e6), ReadLimits(2, 100)))
        return DynamodbHistoryStore(opened[-1], items, timeout_s)

    yield make
    for reads in opened:
        reads.close()


@pytest.fixture(params=["bundle", "memory", "dynamodb"])
def store(
    request: pytest.FixtureRequest, small_bundle: Bundle, histories: Histories, items: ItemKeys
) -> HistoryStore:
    """A store that holds the bundle's histories."""
    if request.param == "bundle":
        return BundleHistoryStore.open(small_bundle.path)
    if request.param == "memory":
        known = {user_id: Plays(*histories.of(item_key(user_id))) for user_id in USER_IDS}
        return InMemoryHistoryStore(known)
    load_histories(histories, items, request.getfixturevalue("writer"))
    made: HistoryStore = request.getfixturevalue("open_store")()
    return made


def ask(store: HistoryStore, user_id: str, timeout_s: float = PATIENT_S) -> Plays:
    return asyncio.run(_ask(store, user_id, timeout_s))


async def _ask(store: HistoryStore, user_id: str, timeout_s: float) -> Plays:
    return await store.plays(user_id, timeout_s=timeout_s)


def composed(plays: Plays, items: ItemKeys) -> History:
    return compose_history(plays, SEEDS, items.keys, AS_OF_S)


def test_a_known_users_plays_come_oldest_first_with_their_times(
    store: HistoryStore, histories: Histories
) -> None:
    rows, times_s = histories.of(LISTENER_KEY)

    plays = ask(store, LISTENER)

    assert plays.rows.tolist() == rows.tolist()
    assert plays.times_s.tolist() == times_s.tolist()
    assert plays.reading.status is SourceStatus.OK


def test_an_unknown_user_has_no_plays_and_nothing_is_wrong(store: HistoryStore) -> None:
    plays = ask(store, "never seen")

    assert len(plays.rows) == len(plays.times_s) == 0
    assert plays.reading.status is SourceStatus.OK


def test_nobody_is_asked_about_a_caller_without_a_name(store: HistoryStore) -> None:
    plays = ask(store, "")

    assert len(plays.rows) == 0
    assert plays.reading.status is SourceStatus.OK
    assert plays.reading.latency_s is None


def test_what_goes_on_to_sources_is_the_same_whatever_the_store(
    store: HistoryStore, small_bundle: Bundle, items: ItemKeys
) -> None:
    bundles = BundleHistoryStore.open(small_bundle.path)

    for user_id in (*USER_IDS, "never seen", ""):
        found, expected = (composed(ask(one, user_id), items) for one in (store, bundles))

        assert found.rows.tolist() == expected.rows.tolist()
        assert found.ages_s.tolist() == expected.ages_s.tolist()
        held = contains(found.seen_filter, items.keys)
        assert held.tolist() == contains(expected.seen_filter, items.keys).tolist()
        assert held[found.rows].all()


def test_without_time_there_are_all_plays_or_none_and_a_timeout(
    store: HistoryStore, histories: Histories
) -> None:
    stored, _ = histories.of(LISTENER_KEY)

    for timeout_s in (0.0, -1.0):
        plays = ask(store, LISTENER, timeout_s)

        expected = stored if plays.reading.status is SourceStatus.OK else stored[:0]
        assert plays.rows.tolist() == expected.tolist()
        assert plays.reading.status in (SourceStatus.OK, SourceStatus.TIMEOUT)


def test_everybody_at_once_gets_their_own(store: HistoryStore, histories: Histories) -> None:
    async def ask_all() -> list[Plays]:
        return await asyncio.gather(*(_ask(store, user_id, PATIENT_S) for user_id in USER_IDS))

    answers = asyncio.run(ask_all())

    expected = [histories.of(item_key(user_id))[0].tolist() for user_id in USER_IDS]
    assert [plays.rows.tolist() for plays in answers] == expected


# DynamoDB alone from here on.


def keys_of(*keys: int) -> NDArray[np.uint64]:
    return np.array(keys, dtype=np.uint64)


def put(client: Any, table: HistoryTable, user_key: int, **attributes: Any) -> None:
    client.put_item(TableName=table.name, Item={**user_attribute(user_key), **attributes})


def test_items_that_the_bundle_does_not_know_are_no_rows_but_stay_in_the_filter(
    writer: DynamodbHistoryWriter, open_store: Callable[..., HistoryStore], items: ItemKeys
) -> None:
    gone = item_key("taken out of the catalogue")
    writer.append(LISTENER_KEY, keys_of(int(items.keys[7]), gone), np.array([10, 20]))

    plays = ask(open_store(), LISTENER)

    assert plays.rows.tolist() == [7]
    assert plays.times_s.tolist() == [10]
    assert contains(composed(plays, items).seen_filter, keys_of(gone)).all()


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {PACKED: {"S": "text"}},
        {PACKED: {"B": b"\0" * 100}},
        {PACKED: {"B": b"rmh1" + b"\xff" * 200}},
        {PACKED: {"B": b"rmh1"}},
    ],
)
def test_an_item_that_cannot_be_read_is_no_history_and_an_error(
    client: Any,
    table: HistoryTable,
    open_store: Callable[..., HistoryStore],
    caplog: pytest.LogCaptureFixture,
    attributes: Any,
) -> None:
    put(client, table, LISTENER_KEY, **attributes)

    plays = ask(open_store(), LISTENER)

    assert plays.reading.status is SourceStatus.ERROR
    assert len(plays.rows) == 0
    assert f"{LISTENER_KEY:016x}" in caplog.text


def test_a_table_that_hangs_is_a_timeout_and_does_not_hold_the_request_up(
    endpoint: str, open_store: Callable[..., HistoryStore]
) -> None:
    with UnprocessedProxy(endpoint, is_silent=True) as proxy:
        plays = ask(open_store(proxy.endpoint, timeout_s=HASTY_S), LISTENER)

    assert plays.reading.status is SourceStatus.TIMEOUT


def test_a_missing_table_is_an_error_that_says_how_to_make_it(
    client: Any,
    table: HistoryTable,
    open_store: Callable[..., HistoryStore],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.delete_table(TableName=table.name)

    plays = ask(open_store(), LISTENER)

    assert plays.reading.status is SourceStatus.ERROR
    assert "`meshctl dynamodb create`" in caplog.text


def test_making_the_table_again_changes_nothing(
    client: Any, table: HistoryTable, writer: DynamodbHistoryWriter
) -> None:
    writer.append(1, keys_of(5), np.array([10]))

    assert not create_history_table(client, table)

    assert writer.append(1, keys_of(6), np.array([20])).plays_ever == 2


def test_a_table_with_other_keys_is_refused(client: Any) -> None:
    other = HistoryTable(f"t{uuid.uuid4().hex[:12]}")
    client.create_table(
        TableName=other.name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )

    with pytest.raises(DynamodbMisconfiguredError, match="exists with other keys"):
        create_history_table(client, other)


def test_appended_plays_are_the_newest(
    writer: DynamodbHistoryWriter,
    open_store: Callable[..., HistoryStore],
    histories: Histories,
    items: ItemKeys,
) -> None:
    load_histories(histories, items, writer)
    stored, _ = histories.of(LISTENER_KEY)

    writer.append(LISTENER_KEY, items.keys[[11, 12]], np.array([AS_OF_S, AS_OF_S]))

    assert ask(open_store(), LISTENER).rows.tolist() == [*stored.tolist(), 11, 12]


def test_of_many_who_append_at_once_nobody_is_lost(
    client: Any, table: HistoryTable, writer: DynamodbHistoryWriter
) -> None:
    def append(number: int) -> None:
        own = DynamodbHistoryWriter(client, table, first_pause_s=0.01)
        for play in range(3):
            append_until_done(own, number * 100 + play)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stored = writer.append(1, keys_of(), np.zeros(0, dtype=np.int64))
    assert sorted(stored.item_keys.tolist()) == [a * 100 + b for a in range(4) for b in range(3)]


def append_until_done(writer: DynamodbHistoryWriter, key: int) -> None:
    """Append though a busy machine may make every try of a writer lose."""
    try:
        writer.append(1, keys_of(key), np.array([10]))
    except HistoryConflictError:
        append_until_done(writer, key)


def test_whoever_loses_every_try_gives_up_and_changes_nothing(
    endpoint: str, table: HistoryTable, writer: DynamodbHistoryWriter
) -> None:
    unlucky = bulk_client(endpoint)
    interferences = []

    def interfere(**_: Any) -> None:
        interferences.append(writer.append(1, keys_of(7), np.array([10])))

    unlucky.meta.events.register("before-call.dynamodb.PutItem", interfere)

    with pytest.raises(HistoryConflictError, match="written by others 8 times"):
        DynamodbHistoryWriter(unlucky, table, first_pause_s=0.001).append(
            1, keys_of(8), np.array([20])
        )

    assert len(interferences) == APPEND_TRIES
    assert set(writer.append(1, keys_of(7), np.array([10])).item_keys.tolist()) == {7}


def test_a_load_between_reading_and_appending_is_not_overwritten(
    endpoint: str, table: HistoryTable, writer: DynamodbHistoryWriter
) -> None:
    writer.append(1, keys_of(5), np.array([10]))
    slow = bulk_client(endpoint)
    loads = iter([stored_history(keys_of(6), np.array([15]))])

    def load(**_: Any) -> None:
        for loaded in loads:
            writer.replace([(1, loaded)])

    slow.meta.events.register("before-call.dynamodb.PutItem", load)

    stored = DynamodbHistoryWriter(slow, table, first_pause_s=0.001).append(
        1, keys_of(8), np.array([20])
    )

    assert stored.item_keys.tolist() == [6, 8]


def test_appending_to_an_item_that_cannot_be_read_leaves_it_as_it_is(
    client: Any, table: HistoryTable, writer: DynamodbHistoryWriter
) -> None:
    put(client, table, 1, **{PACKED: {"B": b"of a newer program"}})

    with pytest.raises(PackedHistoryError, match="history of user 0000000000000001"):
        writer.append(1, keys_of(8), np.array([20]))

    item = client.get_item(TableName=table.name, Key=user_attribute(1))["Item"]
    assert item[PACKED]["B"] == b"of a newer program"


def test_loading_again_changes_nothing(
    writer: DynamodbHistoryWriter,
    open_store: Callable[..., HistoryStore],
    histories: Histories,
    items: ItemKeys,
) -> None:
    loads = [load_histories(histories, items, writer) for _ in range(2)]

    plays = ask(open_store(), LISTENER)

    assert plays.rows.tolist() == histories.of(LISTENER_KEY)[0].tolist()
    assert [(load.users, load.plays) for load in loads] == [
        (len(USER_IDS), len(histories.rows))
    ] * 2


def test_items_left_unprocessed_are_sent_again(
    endpoint: str,
    table: HistoryTable,
    open_store: Callable[..., HistoryStore],
    histories: Histories,
    items: ItemKeys,
) -> None:
    with UnprocessedProxy(endpoint, refusals=4) as proxy:
        refused = DynamodbHistoryWriter(bulk_client(proxy.endpoint), table, first_pause_s=0.001)
        load_histories(histories, items, refused)

    assert proxy.refused == 4
    store = open_store()
    found = [len(ask(store, user_id).rows) for user_id in USER_IDS]
    assert found == [len(histories.of(item_key(user_id))[0]) for user_id in USER_IDS]


def test_a_load_that_breaks_off_fails_as_throttled_and_can_be_run_again(
    endpoint: str,
    table: HistoryTable,
    writer: DynamodbHistoryWriter,
    open_store: Callable[..., HistoryStore],
    histories: Histories,
    items: ItemKeys,
) -> None:
    with UnprocessedProxy(endpoint, refusals=1_000) as proxy:
        refused = DynamodbHistoryWriter(bulk_client(proxy.endpoint), table, first_pause_s=0.001)
        with pytest.raises(DynamodbThrottledError, match="unprocessed after 8 tries"):
            load_histories(histories, items, refused)

    load_histories(histories, items, writer)

    assert len(ask(open_store(), LISTENER).rows) == len(histories.of(LISTENER_KEY)[0])


def test_writing_without_a_table_says_how_to_make_it(client: Any) -> None:
    writer = DynamodbHistoryWriter(client, HistoryTable("nowhere"))

    with pytest.raises(DynamodbTableMissingError, match="`meshctl dynamodb create` makes it"):
        writer.append(1, keys_of(1), np.array([1]))
