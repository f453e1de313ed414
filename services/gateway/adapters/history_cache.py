"""Histories that were read a moment ago."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.gateway.domain.failures import Failure
from services.gateway.domain.stored_history import StoredHistory


@dataclass(frozen=True, slots=True)
class Found:
    """What a user's item holds."""

    stored: StoredHistory | None
    """None: there is nothing to use."""
    failure: Failure | None = None
    """Why not, where it is not that nothing is stored."""


class HistoryCache:
    """The `most` users asked for last, each for `max_age_s` after it was read."""

    def __init__(
        self, most: int, max_age_s: float, elapsed_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._max_age_s = max_age_s
        self._elapsed_s = elapsed_s
        self._held: OrderedDict[int, tuple[Found, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, user_key: int) -> Found | None:
        """Return what was found of a user; None: nobody looked, or too long ago."""
        held = self._held.get(user_key)
        if held is None:
            return None
        found, read_at_s = held
        if self._elapsed_s() - read_at_s >= self._max_age_s:
            del self._held[user_key]
            return None
        self._held.move_to_end(user_key)
        return found

    def put(self, user_key: int, found: Found) -> None:
        """Hold what was found of a user just now."""
        self._held[user_key] = found, self._elapsed_s()
        self._held.move_to_end(user_key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
