"""The two DynamoDB tables of trending: their names, their keys, and how they come to be.

`<prefix>_trend_counts`
    pk `market#genre#bucket#shard`, sk an item id with its count `n` (live writers), or
    `chunk-<number>` with `item_ids` and `item_counts` of up to 500 items and the number of `chunks`
    (bulk loads: a row of some 10 KB costs a fiftieth of 500 single rows to write).
    pk `shards#bucket`, sk a writer, with the `shard` that holds what the writer counted.
`<prefix>_trend_top`
    pk `market#genre`, sk the bucket, with `item_keys` and `item_counts` (little-endian uint64),
    `item_ids` (JSON, for people) and `rolled_at`.
    pk `segments`, sk the bucket, with `segment_keys`: the partitions that have a top there (some
    10,000 fit). Written before the tops, never after; nothing is taken out.
    pk `lease`, sk 0: who rolls up.
Rows carry `expires_at` for DynamoDB's TTL, which may take days; readers go by bucket.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.candidates.adapters.dynamodb_client import translated_errors
from services.candidates.domain.trending import (
    TrendingStoreMisconfiguredError,
    TrendingStoreUnavailableError,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TTL_ATTRIBUTE = "expires_at"
CREATE_DEADLINE_S = 60.0
"""How long a new table may take to become usable; DynamoDB needs 5 to 20 s."""
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class TrendingTables:
    """Names of the tables of one prefix."""

    prefix: str

    @property
    def counts(self) -> str:
        """What writers counted."""
        return f"{self.prefix}_trend_counts"

    @property
    def top(self) -> str:
        """What the roll-up made of it."""
        return f"{self.prefix}_trend_top"


def create_trending_tables(
    client: "DynamoDBClient", tables: TrendingTables, *, deadline_s: float = CREATE_DEADLINE_S
) -> list[str]:
    """Create the tables that do not exist, and return the names of those.

    Returns when all are usable and expire by `TTL_ATTRIBUTE`. Raises TrendingStoreError, of it
    TrendingStoreMisconfiguredError for a table of one of these names with other keys.
    """
    sort_keys = {tables.counts: "S", tables.top: "N"}
    with translated_errors(f"create the tables {tables.prefix}_*"):
        created = [name for name, kind in sort_keys.items() if _create(client, name, kind)]
        ends_s = time.monotonic() + deadline_s
        for name, kind in sort_keys.items():
            _check_keys(name, _wait_until_active(client, name, ends_s), kind)
            _expire_rows(client, name)
    return created


def _create(client: "DynamoDBClient", name: str, sort_key_type: Any) -> bool:
    try:
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": sort_key_type},
            ],
        )
    except client.exceptions.ResourceInUseException:
        return False
    return True


def _wait_until_active(client: "DynamoDBClient", name: str, ends_s: float) -> Any:
    while True:
        table = client.describe_table(TableName=name)["Table"]
        if table["TableStatus"] == "ACTIVE":
            return table
        if time.monotonic() > ends_s:
            raise TrendingStoreUnavailableError(f"table {name} is still {table['TableStatus']}")
        time.sleep(_POLL_S)


def _check_keys(name: str, table: Any, sort_key_type: str) -> None:
    wanted = [("pk", "HASH", "S"), ("sk", "RANGE", sort_key_type)]
    types = {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]}
    found = [
        (key["AttributeName"], key["KeyType"], types[key["AttributeName"]])
        for key in table["KeySchema"]
    ]
    if found != wanted:
        raise TrendingStoreMisconfiguredError(
            f"table {name} exists with other keys: {found}, needed are {wanted}; "
            "delete it, or choose another prefix"
        )


def _expire_rows(client: "DynamoDBClient", name: str) -> None:
    described = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if described.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}:
        return
    client.update_time_to_live(
        TableName=name,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
    )
