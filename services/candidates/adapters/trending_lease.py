"""The lease of the trending roll-up: one worker at a time, taken over when it lapses."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_S = 30.0
"""Length of a lease in seconds: longer than the slowest single step (one bulk call with its retry,
20 s), so that a working holder always comes to renew it; clocks may differ by a few seconds."""

LEASE_KEY = {"pk": {"S": "lease"}, "sk": {"N": "0"}}


class TrendingLease:
    """A held lease, kept as a row of the top table.

    Every holder gets a higher `fence`; what it writes is conditional on that number, so that a
    holder that was paused past its lease can no longer overwrite its successor.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        fence: int,
        held_until_s: float,
        wall_s: Callable[[], float],
    ) -> None:
        self.fence = fence
        self._client = client
        self._table = table
        self._held_until_s = held_until_s
        self._wall_s = wall_s

    @classmethod
    def acquire(
        cls,
        client: "DynamoDBClient",
        table: str,
        worker: str,
        wall_s: Callable[[], float] = time.time,
    ) -> Self | None:
        """Take the lease for `worker`, or return None while another worker holds it.

        `wall_s` is the wall clock in unix seconds: a lease is about real time.
        """
        now_s = wall_s()
        try:
            answer = client.update_item(
                TableName=table,
                Key=LEASE_KEY,
                UpdateExpression="SET held_by = :worker, held_until = :until ADD fence :one",
                # The holder itself may come again: its first answer may have been lost.
                ConditionExpression=(
                    "attribute_not_exists(pk) OR held_until < :now OR held_by = :worker"
                ),
                ExpressionAttributeValues={
                    ":worker": {"S": worker},
                    ":until": {"N": str(now_s + LEASE_S)},
                    ":now": {"N": str(now_s)},
                    ":one": {"N": "1"},
                },
                ReturnValues="UPDATED_NEW",
            )
        except client.exceptions.ConditionalCheckFailedException:
            return None
        fence = int(answer["Attributes"]["fence"]["N"])
        return cls(client, table, fence, now_s + LEASE_S, wall_s)

    def keep(self) -> bool:
        """Renew the lease when half of it has passed; False when another worker has it."""
        now_s = self._wall_s()
        if now_s < self._held_until_s - LEASE_S / 2:
            return True
        self._held_until_s = now_s + LEASE_S
        return self._hold_until(self._held_until_s)

    def release(self) -> None:
        """Let others have it at once; without effect when one already does."""
        self._hold_until(0.0)

    def _hold_until(self, until_s: float) -> bool:
        try:
            self._client.update_item(
                TableName=self._table,
                Key=LEASE_KEY,
                UpdateExpression="SET held_until = :until",
                ConditionExpression="fence = :fence",
                ExpressionAttributeValues={
                    ":until": {"N": str(until_s)},
                    ":fence": {"N": str(self.fence)},
                },
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True
