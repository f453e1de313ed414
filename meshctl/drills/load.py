"""`python -m meshctl.drills.load PLAN`: a load on a mesh, in a process of its own.

Of its own, so that it can be kept to one core and so that no work of the drill
delays its calls. It asks through the client that every caller uses, with the
client's own retry: what a retry mends is not a failed request.

Two loops. *Open*: requests at a fixed rate, whether answers come or not, as
the world asks. *Closed*: so many callers, each asking again once it is answered,
to find out how much the mesh can do. It prints "ready" when connected and ends
after `requests`, or when its standard input does.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from meshctl.drills.records import GIVEN_UP, OK, Kind, Record, SourceRecord, to_line
from recmesh_client import AsyncRecommendationClient, Recommendation, RecommendError

READY_TIMEOUT_S = 60.0
DECK = 100
"""Requests among which those that are meant to fail are shuffled."""
PAGE_SIZE = 20
TIMEOUT_S = 0.2
"""What the client allows on the surface "home"."""
SHORT_S = (0.0005, 0.003)
"""Less than an answer takes, so that a call runs into its deadline or is given up at work."""
LAST_ANSWERS_S = 5.0

Pause = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to ask, of whom, how often.

    Open loop with `per_s`, closed with `callers`. `slates` are seed items, one
    list a request, in turn. `requests` 0: until told to stop.
    """

    targets: tuple[str, ...]
    slates: tuple[tuple[str, ...], ...]
    records: str
    """The file to write."""
    per_s: float = 0.0
    callers: int = 0
    requests: int = 0
    timeout_s: float = 0.0
    """What callers allow; 0: say nothing and get the surface's own, `TIMEOUT_S`."""
    short_share: float = 0.0
    """Share of requests with a timeout within `SHORT_S`, in whole hundredths."""
    cancelled_share: float = 0.0
    """Share of requests that their caller cancels in the middle, in whole hundredths."""
    cores: tuple[int, ...] = ()
    """Cores to run on; empty: any."""
    seed: int = 1

    def to_json(self) -> str:
        """Return the plan as the process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LoadPlan":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        slates = tuple(tuple(slate) for slate in fields["slates"])
        return cls(**{**fields, **lists, "slates": slates})


class Load:
    """Asks as a plan says and writes down what became of it."""

    def __init__(self, plan: LoadPlan, client: AsyncRecommendationClient, records: TextIO) -> None:
        self._plan = plan
        self._client = client
        self._records = records
        self._sent = 0
        self._random = random.Random(plan.seed)  # noqa: S311 - which request is short is no secret
        self._kinds = kinds(plan, self._random)
        self._asking: set[asyncio.Task[None]] = set()
        self.is_stopping = False

    async def run(self) -> None:
        """Ask until the plan is fulfilled or `is_stopping`, then wait for the last answers."""
        await (self._open_loop() if self._plan.per_s else self._closed_loop())
        if self._asking:
            await asyncio.wait(self._asking, timeout=LAST_ANSWERS_S)

    async def _open_loop(self) -> None:
        began_s = time.monotonic()
        while self._wants_more():
            due_s = began_s + self._sent / self._plan.per_s
            # In steps, so that a slow rate does not keep us from stopping.
            while (wait_s := due_s - time.monotonic()) > 0 and not self.is_stopping:
                await asyncio.sleep(min(wait_s, 0.1))
            task = asyncio.create_task(self._ask(due_s))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _closed_loop(self) -> None:
        await asyncio.gather(*(self._caller() for _ in range(self._plan.callers)))

    async def _caller(self) -> None:
        while self._wants_more():
            await self._ask(time.monotonic())

    def _wants_more(self) -> bool:
        is_enough = 0 < self._plan.requests <= self._sent
        if self.is_stopping or is_enough:
            return False
        self._sent += 1
        return True

    async def _ask(self, due_s: float) -> None:
        kind = next(self._kinds)
        seeds = self._plan.slates[self._sent % len(self._plan.slates)]
        given_s = self._short_s() if kind == "short" else self._plan.timeout_s or None
        timeout_s = given_s or TIMEOUT_S
        began_s = time.monotonic()
        call = self._client.recommend(
            page_size=PAGE_SIZE,
            seed_item_ids=seeds,
            timeout_s=given_s,
        )
        answer: Recommendation | None = None
        try:
            answer = await (self._given_up(call) if kind == "cancelled" else call)
            outcome = OK if answer else GIVEN_UP
        except RecommendError as error:
            outcome = error.code.name
        ended_s = time.monotonic()
        record = _record(answer, due_s, began_s, ended_s, timeout_s, kind, outcome)
        self._records.write(f"{to_line(record)}\n")

    async def _given_up(self, call: Awaitable[Recommendation]) -> Recommendation | None:
        """Cancel a call when it has hardly begun; None unless it was answered before."""
        task = asyncio.ensure_future(call)
        await asyncio.wait({task}, timeout=self._short_s())
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        return None

    def _short_s(self) -> float:
        """Return a time that ends in some part of the work on a request."""
        return self._random.uniform(*SHORT_S)


def kinds(plan: LoadPlan, shuffle_by: random.Random) -> Iterator[Kind]:
    """Yield what each request is meant to be, without end, every `DECK` in the plan's shares.

    Shuffled, not drawn one by one: a few hundred that are drawn may hold half as many as meant.
    """
    short, cancelled = round(DECK * plan.short_share), round(DECK * plan.cancelled_share)
    many: dict[Kind, int] = {
        "short": short,
        "cancelled": cancelled,
        "plain": DECK - short - cancelled,
    }
    while True:
        deck = [kind for kind in many for _ in range(many[kind])]
        shuffle_by.shuffle(deck)
        yield from deck


def _record(
    answer: Recommendation | None,
    due_s: float,
    began_s: float,
    ended_s: float,
    timeout_s: float,
    kind: Kind,
    outcome: str,
) -> Record:
    if answer is None:
        return Record(due_s, began_s, ended_s, timeout_s, kind, outcome)
    coverage = answer.coverage
    return Record(
        due_s,
        began_s,
        ended_s,
        timeout_s,
        kind,
        outcome,
        items=len(answer.items),
        degraded=coverage.degraded,
        ranked_by=coverage.ranked_by.name,
        tier=coverage.tier.name,
        quality=1.0 if coverage.quality is None else coverage.quality,
        sources={
            part.source: SourceRecord(
                part.status.name, part.latency_s, part.data_age_s, part.hedged
            )
            for part in coverage.sources
        },
    )


async def _serve(plan: LoadPlan) -> None:
    async with AsyncRecommendationClient(plan.targets) as client:
        await client.wait_until_ready(READY_TIMEOUT_S)
        # A line at a time: the drill reads along to see when the mesh has recovered.
        with Path(plan.records).open("w", buffering=1, encoding="utf-8") as records:
            load = Load(plan, client, records)
            asyncio.get_running_loop().add_reader(0, _stop, load)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await load.run()


def _stop(load: Load) -> None:
    load.is_stopping = True
    asyncio.get_running_loop().remove_reader(0)


def main() -> None:
    """Run the plan in the file that the first argument names."""
    plan = LoadPlan.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if plan.cores:
        os.sched_setaffinity(0, plan.cores)
    # A full collection takes tens of ms, which would look like a late answer.
    gc.freeze()
    gc.disable()
    asyncio.run(_serve(plan))


if __name__ == "__main__":
    main()
