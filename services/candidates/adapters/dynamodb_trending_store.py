"""Trending counts and tops in DynamoDB; the tables are described in `trending_tables`."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from meshkit.dynamodb import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_READ_TIMEOUT_S
from services.candidates.adapters.dynamodb_client import (
    bulk_client,
    dynamodb_client,
    translated_errors,
)
from services.candidates.adapters.trending_lease import TrendingLease
from services.candidates.adapters.trending_rows import (
    SEGMENTS_ATTRIBUTE,
    SEGMENTS_KEY,
    TOP_ATTRIBUTES,
    Row,
    chunk_key,
    chunk_rows,
    chunks_of,
    counts_key,
    expiry,
    is_load,
    load_writer,
    parse_counts,
    parse_segments,
    parse_top,
    segments_row_key,
    shard_name,
    shard_row,
    shards_key,
    top_row,
)
from services.candidates.adapters.trending_tables import TTL_ATTRIBUTE, TrendingTables
from services.candidates.domain.trending import (
    BucketCounts,
    BucketTop,
    RollUp,
    RollUpOutcome,
    Segment,
    TrendingStoreThrottledError,
    buckets_in_window,
    check_load,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LIVE_SHARDS = 8
"""Shards that live writers spread over: one partition key takes 1,000 writes a second."""
BULK_THREADS = 4
"""Calls in flight while loading and rolling up."""
BATCH_ROWS = 25
"""Rows of one BatchWriteItem: DynamoDB's limit."""
GET_ROWS = 100
"""Rows of one BatchGetItem: DynamoDB's limit."""
BATCH_TRIES = 8
"""Tries for rows that DynamoDB leaves unprocessed: about 6 s with the pauses below."""
FIRST_PAUSE_S = 0.05
"""Pause after the first try, doubled after each further one and shortened by up to a half."""

_REMEMBERED_SHARDS = 1_000


class DynamodbTrendingStore:
    """A `TrendingStore` in two DynamoDB tables. Safe to share between threads.

    `client` answers reads and live adds, `bulk_client` loads and rolls up. `expires` gives rows to
    DynamoDB's TTL; switch it off where the clock stands still, as for a log that ended years ago:
    its rows would be deleted as soon as they are written. `worker` names this worker in the lease;
    empty picks a name that no other has. `wall_s` is the lease's clock, unix seconds. Rows that
    DynamoDB left unprocessed are sent again after `first_pause_s`, which doubles each time.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        bulk_client: "DynamoDBClient",
        tables: TrendingTables,
        *,
        expires: bool = True,
        worker: str = "",
        wall_s: Callable[[], float] = time.time,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._client = client
        self._bulk = bulk_client
        self._tables = tables
        self._expires = expires
        self._worker = worker or uuid.uuid4().hex
        self._wall_s = wall_s
        self._first_pause_s = first_pause_s
        self._known_shards: set[tuple[int, str]] = set()

    @classmethod
    def connect(
        cls,
        endpoint: str | None,
        tables: TrendingTables,
        *,
        expires: bool = True,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        read_timeout_s: float = DEFAULT_READ_TIMEOUT_S,
    ) -> Self:
        """Return a store with clients of its own; nothing is sent yet.

        The timeouts are those of reads and live adds; loading and rolling up have longer ones.
        `endpoint` is as for `dynamodb_client`, which says what is raised.
        """
        client = dynamodb_client(
            endpoint, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s
        )
        bulk = bulk_client(endpoint, connections=BULK_THREADS)
        return cls(client, bulk, tables, expires=expires)

    def put_counts(self, counts: Sequence[BucketCounts], *, loader: str) -> None:
        """See `TrendingStore.put_counts`."""
        check_load(counts, loader)
        # A shard is named by its content and takes effect when it is registered: a load that
        # breaks off changes nothing, and what an earlier one left is no longer read.
        shard = shard_name(loader, counts)
        rows = [
            self._with_expiry(row, one.bucket) for one in counts for row in chunk_rows(one, shard)
        ]
        registrations = [
            self._with_expiry(shard_row(bucket, load_writer(loader), shard), bucket)
            for bucket in sorted({one.bucket for one in counts})
        ]
        with translated_errors(f"load counts into {self._tables.counts}"):
            self._write(rows)
            self._write(registrations)

    def add(self, counts: Sequence[BucketCounts]) -> None:
        """See `TrendingStore.add`."""
        shard = f"live-{random.randrange(LIVE_SHARDS)}"  # noqa: S311 - spreads load, hides nothing
        with translated_errors(f"add to {self._tables.counts}"):
            for one in counts:
                self._register(one.bucket, shard)
                for item_id, count in zip(one.item_ids, one.counts, strict=True):
                    key = {
                        "pk": {"S": counts_key(one.segment, one.bucket, shard)},
                        "sk": {"S": item_id},
                    }
                    self._client.update_item(
                        TableName=self._tables.counts,
                        Key=key,
                        **self._addition("n", {"N": str(count)}, one.bucket),
                    )

    def roll_up(
        self, segments: Sequence[Segment], buckets: Sequence[int], *, now_s: float
    ) -> RollUp:
        """See `TrendingStore.roll_up`."""
        with translated_errors(f"roll up into {self._tables.top}"):
            lease = TrendingLease.acquire(self._bulk, self._tables.top, self._worker, self._wall_s)
            if lease is None:
                return RollUp(RollUpOutcome.HELD_ELSEWHERE, 0)
            try:
                return self._roll_up(lease, segments, buckets, now_s)
            finally:
                lease.release()

    def segments(self, now_s: float) -> frozenset[Segment]:
        """See `TrendingStore.segments`."""
        with translated_errors(f"read the segments of {self._tables.top}"):
            rows = self._in_window(SEGMENTS_KEY, now_s, SEGMENTS_ATTRIBUTE)
        return frozenset(segment for row in rows for segment in parse_segments(row))

    def read_segment(self, segment: Segment, now_s: float) -> list[BucketTop]:
        """See `TrendingStore.read_segment`."""
        with translated_errors(f"read segment {segment.key} of {self._tables.top}"):
            rows = self._in_window(segment.key, now_s, TOP_ATTRIBUTES)
        return [parse_top(segment, row) for row in rows]

    def _in_window(self, partition: str, now_s: float, attributes: str) -> list[Row]:
        """Return a partition's rows of the window's buckets, oldest first."""
        window = buckets_in_window(now_s)
        return list(
            _query(
                self._client,
                TableName=self._tables.top,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                ProjectionExpression=f"sk, {attributes}",
                ExpressionAttributeValues={
                    ":pk": {"S": partition},
                    ":first": {"N": str(window[0])},
                    ":last": {"N": str(window[-1])},
                },
            )
        )

    def _roll_up(
        self,
        lease: TrendingLease,
        segments: Sequence[Segment],
        buckets: Sequence[int],
        now_s: float,
    ) -> RollUp:
        written = 0
        with ThreadPoolExecutor(BULK_THREADS) as pool:
            for bucket, group in self._groups(segments, buckets):
                sums = self._sums(group, bucket)
                rows = [
                    self._with_expiry(top_row(segment, bucket, counts, now_s), bucket)
                    for segment, counts in sums.items()
                ]
                if not lease.keep():
                    return RollUp(RollUpOutcome.LEASE_LOST, written)
                self._name_segments([one for one, counts in sums.items() if counts], bucket)
                are_written = list(pool.map(partial(self._put_fenced, lease.fence), rows))
                written += sum(are_written)
                if not all(are_written):
                    return RollUp(RollUpOutcome.LEASE_LOST, written)
        return RollUp(RollUpOutcome.DONE, written)

    def _groups(
        self, segments: Sequence[Segment], buckets: Sequence[int]
    ) -> Iterator[tuple[int, Sequence[Segment]]]:
        """Yield every bucket with up to `GET_ROWS` segments at a time, those it names included."""
        for bucket in buckets:
            named = list(dict.fromkeys([*segments, *self._named_segments(bucket)]))
            for at in range(0, len(named), GET_ROWS):
                yield bucket, named[at : at + GET_ROWS]

    def _named_segments(self, bucket: int) -> list[Segment]:
        answer = self._bulk.get_item(
            TableName=self._tables.top, Key=segments_row_key(bucket), ConsistentRead=True
        )
        return parse_segments(answer["Item"]) if "Item" in answer else []

    def _name_segments(self, segments: Sequence[Segment], bucket: int) -> None:
        """Note that segments have a top: before they do, so that none is ever without its name."""
        if segments:
            keys = {"SS": [segment.key for segment in segments]}
            self._bulk.update_item(
                TableName=self._tables.top,
                Key=segments_row_key(bucket),
                **self._addition(SEGMENTS_ATTRIBUTE, keys, bucket),
            )

    def _sums(self, segments: Sequence[Segment], bucket: int) -> dict[Segment, Counter[str]]:
        """Sum what all shards hold of some segments; a sum may be empty."""
        totals: dict[Segment, Counter[str]] = {segment: Counter() for segment in segments}
        for row in list(self._partition(shards_key(bucket))):
            shard = row["shard"]["S"]
            places = {counts_key(segment, bucket, shard): segment for segment in segments}
            rows = self._chunks(list(places)) if is_load(shard) else self._live_rows(list(places))
            for counts in rows:
                totals[places[counts["pk"]["S"]]].update(parse_counts(counts))
        return totals

    def _chunks(self, keys: Sequence[str]) -> Iterator[Row]:
        """Yield the chunks of loads: 100 partitions a call, where a query reads one."""
        first = self._get([chunk_key(key, 0) for key in keys])
        yield from first
        yield from self._get(
            [
                chunk_key(row["pk"]["S"], number)
                for row in first
                for number in range(1, chunks_of(row))
            ]
        )

    def _live_rows(self, keys: Sequence[str]) -> Iterator[Row]:
        for key in keys:
            yield from self._partition(key)

    def _get(self, keys: Sequence[Row]) -> list[Row]:
        """Return the rows that exist, in any order."""
        return [
            row
            for at in range(0, len(keys), GET_ROWS)
            for row in self._get_batch(keys[at : at + GET_ROWS])
        ]

    def _get_batch(self, keys: Sequence[Row]) -> list[Row]:
        table = self._tables.counts
        found: list[Row] = []
        pending: Any = {table: {"Keys": list(keys), "ConsistentRead": True}}
        for tried in range(BATCH_TRIES):
            self._pause_before(tried)
            answer = self._bulk.batch_get_item(RequestItems=pending)
            found += answer["Responses"].get(table, [])
            pending = answer.get("UnprocessedKeys")
            if not pending:
                return found
        raise TrendingStoreThrottledError(f"{table}: rows not read after {BATCH_TRIES} tries")

    def _partition(self, key: str) -> Iterator[Row]:
        # Consistent: a roll-up that follows a load must see all of it.
        return _query(
            self._bulk,
            TableName=self._tables.counts,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": key}},
            ConsistentRead=True,
        )

    def _register(self, bucket: int, shard: str) -> None:
        """Make a live shard known to the roll-up, once for each bucket."""
        if (bucket, shard) in self._known_shards:
            return
        self._client.put_item(
            TableName=self._tables.counts,
            Item=self._with_expiry(shard_row(bucket, shard, shard), bucket),
        )
        if len(self._known_shards) >= _REMEMBERED_SHARDS:
            self._known_shards = set()
        self._known_shards.add((bucket, shard))

    def _addition(self, attribute: str, value: Row, bucket: int) -> dict[str, Any]:
        """Return the arguments of an update that adds `value` to an attribute, atomically."""
        values: Row = {":added": value}
        update = f"ADD {attribute} :added"
        if self._expires:
            values[":expires"] = expiry(bucket)[TTL_ATTRIBUTE]
            update += f" SET {TTL_ATTRIBUTE} = :expires"
        return {"UpdateExpression": update, "ExpressionAttributeValues": values}

    def _put_fenced(self, fence: int, row: Row) -> bool:
        """Write a top; False when a later holder of the lease has written it already."""
        try:
            self._bulk.put_item(
                TableName=self._tables.top,
                Item={**row, "fence": {"N": str(fence)}},
                ConditionExpression="attribute_not_exists(fence) OR fence <= :fence",
                ExpressionAttributeValues={":fence": {"N": str(fence)}},
            )
        except self._bulk.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _write(self, rows: Sequence[Row]) -> None:
        batches = [rows[at : at + BATCH_ROWS] for at in range(0, len(rows), BATCH_ROWS)]
        with ThreadPoolExecutor(BULK_THREADS) as pool:
            for _ in pool.map(self._write_batch, batches):
                pass  # a failed batch raises here, and the batches not begun are dropped

    def _write_batch(self, rows: Sequence[Row]) -> None:
        pending: Any = {self._tables.counts: [{"PutRequest": {"Item": row}} for row in rows]}
        for tried in range(BATCH_TRIES):
            self._pause_before(tried)
            pending = self._bulk.batch_write_item(RequestItems=pending).get("UnprocessedItems")
            if not pending:
                return
        raise TrendingStoreThrottledError(
            f"{self._tables.counts}: rows left unprocessed after {BATCH_TRIES} tries"
        )

    def _pause_before(self, tried: int) -> None:
        if tried:
            longest_s = self._first_pause_s * 2 ** (tried - 1)
            time.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def _with_expiry(self, row: Row, bucket: int) -> Row:
        return {**row, **expiry(bucket)} if self._expires else row


def _query(client: "DynamoDBClient", **arguments: Any) -> Iterator[Row]:
    """Yield the rows of all pages."""
    while True:
        page = client.query(**arguments)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
