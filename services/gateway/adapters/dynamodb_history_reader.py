"""Reads one user's item; blocks."""

from typing import TYPE_CHECKING, Self

from meshkit.dynamodb import dynamodb_client, translated_errors
from services.gateway.adapters.history_table import PACKED, HistoryTable, user_attribute
from services.gateway.adapters.packed_history import PackedHistoryError, unpack
from services.gateway.domain.stored_history import StoredHistory

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ATTEMPTS = 1
"""The request that needs it will not wait for a second try; the next one asks anew."""


class DynamodbHistoryReader:
    """Reads histories, one GetItem each. Safe to share between threads."""

    def __init__(self, client: "DynamoDBClient", table: HistoryTable) -> None:
        self._client = client
        self._table = table.name

    @classmethod
    def connect(
        cls,
        endpoint: str | None,
        table: HistoryTable,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        connections: int,
    ) -> Self:
        """Return a reader with a client of its own; nothing is sent yet.

        `endpoint` is as for `meshkit.dynamodb.dynamodb_client`, which says what is raised.
        """
        client = dynamodb_client(
            endpoint,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            connections=connections,
            attempts=ATTEMPTS,
        )
        return cls(client, table)

    def read(self, user_key: int) -> StoredHistory | None:
        """Return what is stored of a user, as it was a moment ago; None: nothing.

        Raises DynamodbError and PackedHistoryError.
        """
        key = user_attribute(user_key)
        with translated_errors(f"read a history of {self._table}"):
            # Eventually consistent, at half the price: plays of the last second come a read later.
            answer = self._client.get_item(
                TableName=self._table, Key=key, ProjectionExpression=PACKED
            )
        if "Item" not in answer:
            return None
        packed = answer["Item"].get(PACKED, {}).get("B")
        if packed is None:
            raise PackedHistoryError(f"user {key} has no bytes in {PACKED!r}")
        try:
            return unpack(bytes(packed))
        except PackedHistoryError as exc:
            raise PackedHistoryError(f"history of user {user_key:016x} {exc}") from exc
