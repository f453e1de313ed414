"""Looking histories up: no request waits too long, and the store is asked no more than needed."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from meshkit import dynamodb
from services.gateway.adapters.history_cache import Found, HistoryCache
from services.gateway.adapters.history_metrics import CACHED, READ, REFUSED, SHARED, HistoryMetrics
from services.gateway.adapters.history_reads import HistoryReads, ReadLimits
from services.gateway.adapters.packed_history import PackedHistoryError
from services.gateway.domain.failures import Failure
from services.gateway.domain.stored_history import StoredHistory, stored_history
from tests.unit.metric_reading import ReadableMeter

PATIENT_S = 20.0
HASTY_S = 0.01


class FakeTable:
    """Answers, fails or hangs as it is told, and remembers who was asked for."""

    def __init__(self) -> None:
        self.histories: dict[int, StoredHistory] = {}
        self.error: Exception | None = None
        self.asked: Counter[int] = Counter()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def read(self, user_key: int) -> StoredHistory | None:
        self.asked[user_key] += 1
        assert self.may_answer.wait(PATIENT_S)
        if self.error is not None:
            raise self.error
        return self.histories.get(user_key)


class World:
    """Look-ups over a fake table."""

    def __init__(self, limits: ReadLimits, cache_s: float) -> None:
        self.table = FakeTable()
        self.meter = ReadableMeter()
        cache = HistoryCache(100, cache_s)
        self.reads = HistoryReads(self.table.read, cache, limits, HistoryMetrics(self.meter))

    def look_ups(self) -> dict[str, int]:
        series = self.meter.read().series("recmesh.history.lookups")
        return {
            str(dict(attributes)["recmesh.history.lookup"]): n for attributes, n in series.items()
        }


def run(
    test: Callable[[World], Coroutine[Any, Any, None]],
    *,
    threads: int = 2,
    waiting: int = 2,
    cache_s: float = 1e6,
) -> None:
    async def running() -> None:
        world = World(ReadLimits(threads, waiting), cache_s)
        try:
            await test(world)
        finally:
            world.table.may_answer.set()
            world.reads.close()

    asyncio.run(running())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not is_so():
            await asyncio.sleep(0.001)


def history() -> StoredHistory:
    return stored_history(np.array([1, 2, 3], dtype=np.uint64), np.array([10, 20, 30]))


def test_a_history_is_read_once_and_then_remembered() -> None:
    async def test(world: World) -> None:
        world.table.histories[7] = stored = history()

        found = [await world.reads.look_up(7, PATIENT_S) for _ in range(3)]

        assert [each.stored for each in found] == [stored] * 3
        assert world.table.asked == {7: 1}
        assert world.look_ups() == {READ: 1, CACHED: 2}

    run(test)


def test_that_nothing_is_stored_is_remembered_too() -> None:
    async def test(world: World) -> None:
        found = [await world.reads.look_up(7, PATIENT_S) for _ in range(3)]

        assert found == [Found(None)] * 3
        assert world.table.asked == {7: 1}

    run(test)


def test_what_is_too_old_is_read_again() -> None:
    async def test(world: World) -> None:
        await world.reads.look_up(7, PATIENT_S)
        world.table.histories[7] = stored = history()

        assert (await world.reads.look_up(7, PATIENT_S)).stored is stored
        assert world.table.asked == {7: 2}

    run(test, cache_s=0.0)


def test_requests_for_one_user_share_a_read() -> None:
    async def test(world: World) -> None:
        world.table.histories[7] = stored = history()
        world.table.may_answer.clear()
        waiting = [asyncio.create_task(world.reads.look_up(7, PATIENT_S)) for _ in range(5)]
        await until(lambda: world.look_ups().get(SHARED) == 4)

        world.table.may_answer.set()

        assert [each.stored for each in await asyncio.gather(*waiting)] == [stored] * 5
        assert world.table.asked == {7: 1}

    run(test)


def test_a_late_read_is_left_behind_and_what_it_brings_is_there_for_the_next_request() -> None:
    async def test(world: World) -> None:
        world.table.histories[7] = stored = history()
        world.table.may_answer.clear()

        late = await world.reads.look_up(7, HASTY_S)
        world.table.may_answer.set()
        found = await world.reads.look_up(7, PATIENT_S)

        assert late.failure is Failure.LATE
        assert found.stored is stored
        assert world.table.asked == {7: 1}

    run(test)


def test_beyond_the_threads_and_the_queue_a_look_up_is_refused_at_once() -> None:
    async def test(world: World) -> None:
        world.table.may_answer.clear()
        late = [await world.reads.look_up(user, HASTY_S) for user in range(4)]

        refused = await world.reads.look_up(9, PATIENT_S)

        assert {each.failure for each in late} == {Failure.LATE}
        assert refused.failure is Failure.FULL
        assert len(world.table.asked) <= 2
        assert world.look_ups() == {READ: 4, REFUSED: 1}

    run(test, threads=2, waiting=2)


def test_there_is_room_again_when_reads_have_ended() -> None:
    async def test(world: World) -> None:
        world.table.may_answer.clear()
        assert (await world.reads.look_up(1, HASTY_S)).failure is Failure.LATE
        assert (await world.reads.look_up(2, HASTY_S)).failure is Failure.FULL

        world.table.may_answer.set()
        await world.reads.look_up(1, PATIENT_S)

        assert (await world.reads.look_up(2, PATIENT_S)).failure is None

    run(test, threads=1, waiting=0)


def test_without_time_only_the_cache_is_asked() -> None:
    async def test(world: World) -> None:
        world.table.histories[7] = stored = history()

        nothing = await world.reads.look_up(7, 0.0)
        await world.reads.look_up(7, PATIENT_S)

        assert nothing.failure is Failure.NO_TIME
        assert (await world.reads.look_up(7, -1.0)).stored is stored
        assert world.table.asked == {7: 1}

    run(test)


ERRORS = [
    (dynamodb.DynamodbUnavailableError("x"), Failure.UNAVAILABLE),
    (dynamodb.DynamodbThrottledError("x"), Failure.FULL),
    (dynamodb.DynamodbMisconfiguredError("x"), Failure.REFUSED),
    (dynamodb.DynamodbTableMissingError("x"), Failure.REFUSED),
    (dynamodb.DynamodbError("x"), Failure.BROKEN),
    (PackedHistoryError("x"), Failure.BROKEN),
    (ZeroDivisionError("x"), Failure.BROKEN),
]


@pytest.mark.parametrize(("error", "failure"), ERRORS, ids=lambda each: type(each).__name__)
def test_every_error_is_a_failure_and_none_is_raised(error: Exception, failure: Failure) -> None:
    async def test(world: World) -> None:
        world.table.error = error

        assert await world.reads.look_up(7, PATIENT_S) == Found(None, failure)

    run(test)


def test_after_an_outage_the_next_request_reads_anew() -> None:
    async def test(world: World) -> None:
        world.table.histories[7] = stored = history()
        world.table.error = dynamodb.DynamodbUnavailableError("gone")
        await world.reads.look_up(7, PATIENT_S)

        world.table.error = None

        assert (await world.reads.look_up(7, PATIENT_S)).stored is stored

    run(test)


def test_an_item_that_cannot_be_read_is_not_read_again_for_each_request() -> None:
    async def test(world: World) -> None:
        world.table.error = PackedHistoryError("damaged")

        found = [await world.reads.look_up(7, PATIENT_S) for _ in range(3)]

        assert found == [Found(None, Failure.BROKEN)] * 3
        assert world.table.asked == {7: 1}

    run(test)


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(world: World) -> None:
        for error in (dynamodb.DynamodbUnavailableError("nobody there"), None):
            world.table.error = error
            for user in range(3):
                await world.reads.look_up(user, PATIENT_S)

    with caplog.at_level(logging.INFO):
        run(test)

    assert [
        record.getMessage() for record in caplog.records if "history" in record.getMessage()
    ] == [
        "history: nobody there (was: answers)",
        "history: answers (was: nobody there)",
    ]


def test_warming_reads_in_every_thread_and_remembers_nothing() -> None:
    async def test(world: World) -> None:
        await world.reads.warm(PATIENT_S)

        assert world.table.asked == {0: 2}
        assert await world.reads.look_up(0, 0.0) == Found(None, Failure.NO_TIME)

    run(test, threads=2)


def test_warming_gives_up_on_a_table_that_hangs() -> None:
    async def test(world: World) -> None:
        world.table.may_answer.clear()

        await world.reads.warm(HASTY_S)

        assert not world.table.may_answer.is_set()

    run(test)


def test_after_closing_nothing_is_read() -> None:
    async def test(world: World) -> None:
        world.reads.close()

        assert (await world.reads.look_up(7, PATIENT_S)).failure is Failure.FULL
        assert not world.table.asked

    run(test)
