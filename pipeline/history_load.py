"""Histories of a log or a bundle, written where the gateway reads them."""

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from services.gateway.domain.stored_history import StoredHistory, stored_history
from signals.bundle import Histories, ItemKeys

LOAD_THREADS = 4
"""Batches in flight: DynamoDB takes some 5 ms for one, and we as long to make it."""
BATCH_USERS = 25
"""Users written together."""

UserHistory = tuple[int, StoredHistory]


class HistoryWriter(Protocol):
    """Stores whole histories."""

    def replace(self, histories: list[UserHistory]) -> None:
        """Store histories in place of what is there."""
        ...


@dataclass(frozen=True, slots=True)
class HistoryLoad:
    """What a load did."""

    users: int
    plays: int
    seconds: float

    @property
    def users_per_s(self) -> float:
        """Users written a second."""
        return self.users / max(self.seconds, 1e-9)


def load_histories(
    histories: Histories, items: ItemKeys, writer: HistoryWriter, *, shows_progress: bool = False
) -> HistoryLoad:
    """Store every user's history; doing it again, or after it broke off, does no harm.

    A progress bar goes to the terminal and disappears at the end. Raises what the writer does;
    what was stored until then stays.
    """
    began_s = time.monotonic()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not shows_progress) as bar:
        task = bar.add_task("writing histories", total=len(histories.user_keys))
        for written in _written(stored_histories(histories, items), writer):
            bar.advance(task, written)
    return HistoryLoad(len(histories.user_keys), len(histories.rows), time.monotonic() - began_s)


def stored_histories(histories: Histories, items: ItemKeys) -> Iterator[UserHistory]:
    """Yield what to store of every user, users in key order."""
    keys: NDArray[np.uint64] = items.keys
    bounds = histories.offsets.tolist()
    for place, user_key in enumerate(histories.user_keys.tolist()):
        span = slice(bounds[place], bounds[place + 1])
        yield user_key, stored_history(keys[histories.rows[span]], histories.times_s[span])


def _written(histories: Iterator[UserHistory], writer: HistoryWriter) -> Iterator[int]:
    """Write in batches, a few at a time, and yield the users of each when it is written."""
    going_on: dict[Future[None], int] = {}
    with ThreadPoolExecutor(LOAD_THREADS) as pool:
        while batch := list(islice(histories, BATCH_USERS)):
            going_on[pool.submit(writer.replace, batch)] = len(batch)
            if len(going_on) >= 2 * LOAD_THREADS:
                yield from _ended(going_on)
        while going_on:
            yield from _ended(going_on)


def _ended(going_on: dict[Future[None], int]) -> Iterator[int]:
    """Wait for at least one batch, and yield the users of each that is written."""
    done, _ = wait(going_on, return_when=FIRST_COMPLETED)
    for batch in done:
        batch.result()
        yield going_on.pop(batch)
