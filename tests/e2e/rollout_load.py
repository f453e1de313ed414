"""A steady load on a mesh, and the servers' own records of what became of it."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recmesh_client import (
    AsyncRecommendationClient,
    DeadlineExceeded,
    RankedBy,
    RecommendError,
)

TIMEOUT_S = 5.0
PAGE_SIZE = 20
LATE_S = 0.5
"""So long an answer only takes that waited for a leaf until its deadline."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its caller saw it; times are the machine's monotonic clock."""

    began_s: float
    ended_s: float
    trace_id: str = ""
    version: str = ""
    fault: str = ""
    """What was wrong with the answer; empty for a full answer of the model."""
    is_late: bool = False
    """A deadline passed, the request's own or a leaf's."""


@dataclass(slots=True)
class Load:
    """Requests at a steady rate, however long answers take; not all at once after a stall."""

    gateway: str
    users: Sequence[str]
    per_s: float
    asked: list[Asked] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask until the block ends, then wait for the last answers."""
        thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()

    def faults(self, *, excused: float = 0.0) -> list[str]:
        """Return what was wrong with every answer that was not a good one.

        `excused` is the share of the requests that may be late because the machine stood still.
        """
        late = [each.fault for each in self.asked if each.fault and each.is_late]
        others = [each.fault for each in self.asked if each.fault and not each.is_late]
        return others if len(late) <= excused * len(self.asked) else [*others, *late]

    async def _run(self) -> None:
        # The client would ask once more after UNAVAILABLE, and hide a request that failed.
        once = [("grpc.enable_retries", 0)]
        async with AsyncRecommendationClient(self.gateway, extra_channel_options=once) as client:
            await client.wait_until_ready(TIMEOUT_S)
            due_s, number = time.monotonic(), 0
            asking: set[asyncio.Task[None]] = set()
            while not self._stopping.is_set():
                user = self.users[number % len(self.users)]
                task = asyncio.create_task(self._ask(client, user))
                asking.add(task)
                task.add_done_callback(asking.discard)
                number += 1
                due_s = max(due_s + 1 / self.per_s, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())
            await asyncio.gather(*asking)

    async def _ask(self, client: AsyncRecommendationClient, user: str) -> None:
        began_s = time.monotonic()
        try:
            answer = await client.recommend(
                user, page_size=PAGE_SIZE, surface="batch", timeout_s=TIMEOUT_S
            )
        except RecommendError as error:
            is_late = isinstance(error, DeadlineExceeded)
            self.asked.append(Asked(began_s, time.monotonic(), fault=repr(error), is_late=is_late))
            return
        is_good = (
            not answer.coverage.degraded
            and len(answer.items) == PAGE_SIZE
            and answer.coverage.ranked_by is RankedBy.MODEL
        )
        ended_s = time.monotonic()
        self.asked.append(
            Asked(
                began_s,
                ended_s,
                answer.recommendation_id[:32],
                answer.bundle_version,
                "" if is_good else f"{answer.coverage}",
                is_late=ended_s - began_s > LATE_S,
            )
        )


@dataclass(frozen=True, slots=True)
class Records:
    """What the servers wrote into the call log."""

    pinned: tuple[tuple[float, str], ...]
    """When the gateway moved its pin, and to which version."""
    answered: dict[str, str]
    """Version of the gateway's answer, by trace."""
    served: dict[str, list[tuple[str, str]]]
    """Leaf and version of each call that a leaf served, by trace."""
    workers: dict[str, set[str]]
    """Pids that served calls, by leaf."""

    @classmethod
    def read(cls, path: Path) -> "Records":
        """Read a call log."""
        pinned: list[tuple[float, str]] = []
        answered: dict[str, str] = {}
        served: dict[str, list[tuple[str, str]]] = defaultdict(list)
        workers: dict[str, set[str]] = defaultdict(set)
        for line in path.read_text().splitlines():
            at_s, event, service, pid, trace_id, version = line.split()
            if event == "pinned":
                pinned.append((float(at_s), version))
            elif event == "answered":
                answered[trace_id] = version
            else:
                served[trace_id].append((service, version))
                workers[service].add(pid)
        return cls(tuple(pinned), answered, served, workers)

    def current_during(self, asked: Asked) -> set[str]:
        """Return the versions that the gateway was pinned to between question and answer."""
        before = [version for at_s, version in self.pinned if at_s <= asked.began_s][-1:]
        meanwhile = [v for at_s, v in self.pinned if asked.began_s < at_s <= asked.ended_s]
        return {*before, *meanwhile}
