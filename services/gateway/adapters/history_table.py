"""The DynamoDB table of histories: one item a user, and how it comes to be.

`<prefix>_histories`: pk `user_key`, the user's 64-bit key as 16 hex digits (ids stay out of it);
with `packed` (see `packed_history`) and `item_version`, a number that every write changes.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshkit.dynamodb import (
    DynamodbMisconfiguredError,
    DynamodbUnavailableError,
    translated_errors,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

USER, PACKED, VERSION = "user_key", "packed", "item_version"

CREATE_DEADLINE_S = 60.0
"""How long a new table may take to become usable; DynamoDB needs 5 to 20 s."""
_POLL_S = 0.1
_KEY_SCHEMA = [{"AttributeName": USER, "KeyType": "HASH"}]
_KEY_TYPES = [{"AttributeName": USER, "AttributeType": "S"}]


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """The table of one prefix."""

    prefix: str

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.prefix}_histories"


def user_attribute(user_key: int) -> dict[str, Any]:
    """Return the primary key of a user's item."""
    return {USER: {"S": f"{user_key:016x}"}}


def create_history_table(
    client: "DynamoDBClient", table: HistoryTable, *, deadline_s: float = CREATE_DEADLINE_S
) -> bool:
    """Create the table unless it exists, and return whether it had to be; then it is usable.

    Raises DynamodbError, of it DynamodbMisconfiguredError for a table of this name with other keys.
    """
    with translated_errors(f"create the table {table.name}"):
        is_new = _create(client, table.name)
        described = _wait_until_active(client, table.name, time.monotonic() + deadline_s)
    if described["KeySchema"] != _KEY_SCHEMA or described["AttributeDefinitions"] != _KEY_TYPES:
        raise DynamodbMisconfiguredError(
            f"table {table.name} exists with other keys: {described['KeySchema']} of "
            f"{described['AttributeDefinitions']}; delete it, or choose another prefix"
        )
    return is_new


def _create(client: "DynamoDBClient", name: str) -> bool:
    settings: Any = {"KeySchema": _KEY_SCHEMA, "AttributeDefinitions": _KEY_TYPES}
    try:
        client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **settings)
    except client.exceptions.ResourceInUseException:
        return False
    return True


def _wait_until_active(client: "DynamoDBClient", name: str, ends_s: float) -> Any:
    while True:
        table = client.describe_table(TableName=name)["Table"]
        if table["TableStatus"] == "ACTIVE":
            return table
        if time.monotonic() > ends_s:
            raise DynamodbUnavailableError(f"table {name} is still {table['TableStatus']}")
        time.sleep(_POLL_S)
