"""The embedded default of the history port: the bundle's own histories."""

from pathlib import Path
from typing import Self

from services.gateway.domain.history import NO_PLAYS, Plays
from signals.bundle import Histories
from signals.keys import item_key


class BundleHistoryStore:
    """Knows what users had played when the bundle was trained."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map the histories of a verified bundle."""
        return cls(Histories.open(directory))

    async def plays(self, user_id: str, *, timeout_s: float) -> Plays:
        """See `HistoryStore.plays`; mapped memory is there at once, whatever `timeout_s`."""
        del timeout_s
        if not user_id:
            return NO_PLAYS
        rows, times_s = self._histories.of(item_key(user_id))
        return Plays(rows, times_s)
