"""The history port over DynamoDB: what is stored now, in rows of one bundle."""

import time
from dataclasses import dataclass

from services.gateway.adapters.history_reads import HistoryReads
from services.gateway.domain.history import NO_PLAYS, Plays, failed_plays, plays_of
from services.gateway.domain.stored_history import NO_STORED_HISTORY
from services.gateway.domain.values import HistoryReading, SourceStatus
from signals.bundle import ItemKeys
from signals.keys import item_key


@dataclass(frozen=True, slots=True)
class DynamodbHistoryStore:
    """Knows what users have played until now; `reads` is shared by all bundles."""

    reads: HistoryReads
    items: ItemKeys
    timeout_s: float
    """Longest time that a request waits for its read."""

    async def plays(self, user_id: str, *, timeout_s: float) -> Plays:
        """See `HistoryStore.plays`."""
        if not user_id:
            return NO_PLAYS
        started_s = time.monotonic()
        found = await self.reads.look_up(item_key(user_id), min(timeout_s, self.timeout_s))
        latency_s = time.monotonic() - started_s
        if found.failure is not None:
            return failed_plays(found.failure, latency_s)
        reading = HistoryReading(SourceStatus.OK, latency_s)
        return plays_of(found.stored or NO_STORED_HISTORY, self.items, reading)
