"""Writes histories: whole ones in bulk, and newer plays behind what is stored."""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from meshkit.dynamodb import (
    DynamodbThrottledError,
    bulk_client,
    translated_errors,
)
from services.gateway.adapters.history_table import PACKED, VERSION, HistoryTable, user_attribute
from services.gateway.adapters.packed_history import PackedHistoryError, pack, unpack
from services.gateway.domain.stored_history import (
    NO_STORED_HISTORY,
    Keys,
    StoredHistory,
    Times,
    appended,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BATCH_ITEMS = 25
"""Items of one BatchWriteItem: DynamoDB's limit; at most 2 MB of its 16."""
BATCH_TRIES = 8
"""Tries for items that DynamoDB leaves unprocessed: about 6 s with the pauses below."""
APPEND_TRIES = 8
"""Tries to append where others write the same user's item."""
FIRST_PAUSE_S = 0.05
"""Pause after the first try, doubled after each further one and shortened by up to a half."""

UserHistory = tuple[int, StoredHistory]
"""A user's key, and what to store."""


class HistoryConflictError(Exception):
    """Others kept writing a user's item while we tried to; nothing was changed."""


class DynamodbHistoryWriter:
    """Writes one table. Safe to share between threads."""

    def __init__(
        self, client: "DynamoDBClient", table: HistoryTable, *, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        self._client = client
        self._table = table.name
        self._first_pause_s = first_pause_s

    @classmethod
    def connect(cls, endpoint: str | None, table: HistoryTable, *, connections: int = 1) -> Self:
        """Return a writer with a client of its own; nothing is sent yet.

        `endpoint` is as for `meshkit.dynamodb.dynamodb_client`, which says what is raised.
        """
        return cls(bulk_client(endpoint, connections=connections), table)

    def replace(self, histories: Sequence[UserHistory]) -> None:
        """Store whole histories in place of what is there; doing it again changes nothing.

        Those of 25 users travel together, so plays that somebody appends meanwhile are replaced
        too. Users are distinct. Raises DynamodbError; some may be stored then, each whole.
        """
        version = time.time_ns() // 1000  # above what appending, which adds 1, ever reaches
        for batch in _batches(histories):
            rows = [_row(user_key, stored, version) for user_key, stored in batch]
            self._put([{"PutRequest": {"Item": row}} for row in rows])

    def append(self, user_key: int, item_keys: Keys, times_s: Times) -> StoredHistory:
        """Put plays behind a user's stored ones, parallel and oldest first; return what is stored.

        Reads, and writes only over what it read: when somebody else wrote between, it tries again.
        Raises HistoryConflictError after `APPEND_TRIES`, DynamodbError, and PackedHistoryError for
        an item that cannot be read, which stays as it is.
        """
        for tried in range(APPEND_TRIES):
            self._pause_before(tried)
            stored, version = self._read(user_key)
            newer = appended(stored, item_keys, times_s)
            if self._put_over(version, _row(user_key, newer, (version or 0) + 1)):
                return newer
        raise HistoryConflictError(
            f"history of user {user_key:016x} was written by others {APPEND_TRIES} times in a row"
        )

    def _read(self, user_key: int) -> tuple[StoredHistory, int | None]:
        """Return what is stored of a user, and its version; None: there is no item."""
        with translated_errors(f"read a history of {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=user_attribute(user_key), ConsistentRead=True
            )
        if "Item" not in answer:
            return NO_STORED_HISTORY, None
        item: Any = answer["Item"]
        try:
            return unpack(bytes(item[PACKED]["B"])), int(item[VERSION]["N"])
        except (KeyError, ValueError) as exc:
            raise PackedHistoryError(f"history of user {user_key:016x} {exc}") from exc

    def _put_over(self, version: int | None, row: dict[str, Any]) -> bool:
        """Write an item unless it is not of `version` any more; tell whether it was written."""
        condition: dict[str, Any] = {"ConditionExpression": f"attribute_not_exists({PACKED})"}
        if version is not None:
            condition = {
                "ConditionExpression": f"{VERSION} = :read",
                "ExpressionAttributeValues": {":read": {"N": str(version)}},
            }
        with translated_errors(f"write a history of {self._table}"):
            try:
                self._client.put_item(TableName=self._table, Item=row, **condition)
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def _put(self, requests: Sequence[Any]) -> None:
        pending: Any = {self._table: requests}
        with translated_errors(f"load histories into {self._table}"):
            for tried in range(BATCH_TRIES):
                self._pause_before(tried)
                pending = self._client.batch_write_item(RequestItems=pending).get(
                    "UnprocessedItems"
                )
                if not pending:
                    return
        raise DynamodbThrottledError(
            f"{self._table}: items left unprocessed after {BATCH_TRIES} tries"
        )

    def _pause_before(self, tried: int) -> None:
        if tried:
            longest_s = self._first_pause_s * 2 ** (tried - 1)
            time.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


def _row(user_key: int, stored: StoredHistory, version: int) -> dict[str, Any]:
    return {
        **user_attribute(user_key),
        PACKED: {"B": pack(stored)},
        VERSION: {"N": str(version)},
    }


def _batches(histories: Iterable[UserHistory]) -> Iterator[list[UserHistory]]:
    rest = iter(histories)
    while batch := list(islice(rest, BATCH_ITEMS)):
        yield batch
