"""A history store with memory, held to the same contract as the others, that fails when told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.gateway.domain.failures import Failure
from services.gateway.domain.history import NO_PLAYS, Plays, failed_plays
from services.gateway.domain.values import HistoryReading, SourceStatus


@dataclass(slots=True)
class InMemoryHistoryStore:
    """Knows the plays that it was given, by user id; remembers how long it might have taken."""

    known: Mapping[str, Plays]
    failure: Failure | None = None
    timeouts_s: list[float] = field(default_factory=list)

    async def plays(self, user_id: str, *, timeout_s: float) -> Plays:
        if not user_id:
            return NO_PLAYS
        self.timeouts_s.append(timeout_s)
        failure = Failure.NO_TIME if timeout_s <= 0 else self.failure
        if failure is not None:
            return failed_plays(failure, 0.0)
        reading = HistoryReading(SourceStatus.OK, latency_s=0.0)
        return replace(self.known.get(user_id, NO_PLAYS), reading=reading)
