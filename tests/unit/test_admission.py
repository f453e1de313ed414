"""Who is let in, who waits, who is refused; and the pool that knows its queue."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import wait
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.admission import LEAST_QUALITY, WAITING_PER_PLACE, Admission, CallPool
from meshkit.arrivals import PROMPT, RECENT
from meshkit.concurrency import AdaptiveLimit, LimitRules
from meshkit.errors import DEFAULT_RETRY_AFTER_S, Overloaded

PLACES = 8
HURRIED_S = 0.15
PATIENT_S = 5.0
SHORT_PATIENCE_S = 1.0  # waits 0.2 s
DEADLINE_S = 20.0


def admission(places: int = PLACES) -> Admission:
    rules = LimitRules(initial=places, minimum=places, maximum=places)
    return Admission(AdaptiveLimit(rules, lambda: 0.0))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, DEADLINE_S))


async def entered(places: Admission, count: int, remaining_s: float | None = None) -> None:
    for _ in range(count):
        await places.enter(remaining_s)


async def waiting(places: Admission, remaining_s: float = PATIENT_S) -> "asyncio.Task[None]":
    """Start to enter, and return once that waits."""
    before = places.waiting
    task = asyncio.create_task(places.enter(remaining_s))
    while places.waiting == before and not task.done():
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("remaining_s", [HURRIED_S, None, 0.0])
def test_hurried_calls_take_every_place_and_are_then_refused_at_once(
    remaining_s: float | None,
) -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES, remaining_s)

        with pytest.raises(Overloaded):
            places.enter(remaining_s).send(None)  # without giving the loop a turn

        assert (places.in_flight, places.shed, places.waiting) == (PLACES, 1, 0)

    run(check())


def test_hurried_calls_that_all_waited_too_long_are_refused_though_there_are_places() -> None:
    async def check() -> None:
        places = admission(4 * RECENT)
        for _ in range(RECENT):
            await places.enter(HURRIED_S, "peer")
        refused = 0
        for _ in range(RECENT):
            try:
                await places.enter(HURRIED_S / 2, "peer")
            except Overloaded:
                refused += 1

        assert refused == PROMPT + 1  # from when all but so many of the recent ones had waited
        await places.enter(HURRIED_S, "peer")  # this one came at once
        await places.enter(PATIENT_S, "peer")  # this one has time

    run(check())


def test_a_place_given_back_is_taken_again() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES)
        places.leave()

        await places.enter(HURRIED_S)

        assert (places.in_flight, places.shed) == (PLACES, 0)

    run(check())


def test_patient_calls_leave_a_quarter_of_the_places_to_hurried_ones() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, 6, PATIENT_S)

        patient = await waiting(places)
        await entered(places, 2, HURRIED_S)

        assert (places.in_flight, places.waiting) == (8, 1)
        patient.cancel()

    run(check())


def test_hurried_calls_go_before_patient_ones_that_wait() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES, HURRIED_S)
        patient = await waiting(places)
        places.leave()

        await places.enter(HURRIED_S)

        assert (places.in_flight, patient.done()) == (PLACES, False)
        patient.cancel()

    run(check())


def test_patient_calls_get_free_places_in_the_order_of_their_coming() -> None:
    async def check() -> None:
        places = admission()
        order: list[int] = []
        await entered(places, PLACES)
        tasks = [await waiting(places) for _ in range(6)]
        for task in tasks:
            task.add_done_callback(lambda done: order.append(tasks.index(done)))

        for _ in range(PLACES):
            places.leave()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)

        assert order == [0, 1, 2, 3, 4, 5]
        assert (places.in_flight, places.waiting) == (6, 0)

    run(check())


def test_a_patient_call_does_not_overtake_one_that_waits() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, 6, PATIENT_S)
        first = await waiting(places)
        second = await waiting(places)
        places.leave()
        await first

        third = await waiting(places)

        assert (second.done(), third.done(), places.waiting) == (False, False, 2)
        second.cancel()
        third.cancel()

    run(check())


def test_a_patient_call_waits_a_fifth_of_its_time_and_is_then_refused() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES)
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()

        with pytest.raises(Overloaded):
            await places.enter(SHORT_PATIENCE_S)

        assert loop.time() - began_at_s >= 0.2 - 0.01  # the loop's clock is coarse
        assert (places.in_flight, places.waiting, places.shed) == (PLACES, 0, 1)

    run(check())


def test_no_more_than_four_calls_a_place_wait() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES)
        tasks = [await waiting(places) for _ in range(WAITING_PER_PLACE * PLACES)]

        with pytest.raises(Overloaded):
            await places.enter(PATIENT_S)

        assert places.waiting == len(tasks) == 32
        for task in tasks:
            task.cancel()

    run(check())


def test_a_cancelled_waiter_leaves_no_trace() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, PLACES)
        task = await waiting(places)

        task.cancel()
        await asyncio.wait([task])

        assert (places.in_flight, places.waiting, places.shed) == (PLACES, 0, 0)

    run(check())


def test_a_waiter_cancelled_in_the_instant_it_is_let_in_gives_its_place_to_the_next() -> None:
    async def check() -> None:
        places = admission()
        await entered(places, 6, PATIENT_S)
        first = await waiting(places)
        second = await waiting(places)

        places.leave()
        first.cancel()
        await second

        assert first.cancelled()
        assert (places.in_flight, places.waiting) == (6, 0)

    run(check())


def test_a_limit_that_grows_lets_waiters_in() -> None:
    async def check() -> None:
        now = [0.0]
        places = Admission(AdaptiveLimit(LimitRules(initial=8), lambda: now[0]))
        await entered(places, 8)
        tasks = [await waiting(places) for _ in range(3)]

        while not tasks[0].done():
            now[0] += 1.0
            places.observe(0.001)
            await asyncio.sleep(0)

        assert places.in_flight == 9
        for task in tasks[1:]:
            task.cancel()

    run(check())


def test_a_place_is_kept_until_the_work_ends_that_outlives_its_handler() -> None:
    async def check() -> None:
        places = admission()
        end = asyncio.Event()

        async def handler() -> None:
            async with places.place(HURRIED_S):
                work = asyncio.create_task(end.wait())
                places.keep_until(work)
                await asyncio.shield(work)

        call = asyncio.create_task(handler())
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
        held = places.in_flight
        end.set()
        while places.in_flight:
            await asyncio.sleep(0)

        assert call.cancelled()
        assert held == 1

    run(check())


def test_a_handler_that_outlives_its_work_holds_the_one_place_once() -> None:
    async def check() -> None:
        places = admission()

        async with places.place(HURRIED_S):
            work = asyncio.create_task(asyncio.sleep(0))
            places.keep_until(work)
            await work
            await asyncio.sleep(0)
            during = places.in_flight

        assert (during, places.in_flight) == (1, 0)

    run(check())


def test_keeping_a_place_means_nothing_outside_a_call_and_after_its_end() -> None:
    async def check() -> None:
        places = admission()
        late = asyncio.Event()

        async def keep_late() -> None:
            await late.wait()
            places.keep_until(asyncio.create_task(asyncio.sleep(0)))

        async with places.place(HURRIED_S):
            straggler = asyncio.create_task(keep_late())
        late.set()
        await straggler
        work = asyncio.create_task(asyncio.sleep(0))
        places.keep_until(work)
        await work
        await asyncio.sleep(0.01)

        assert places.in_flight == 0

    run(check())


def test_quality_is_whole_until_half_the_places_are_taken_and_then_falls_to_a_quarter() -> None:
    async def check() -> None:
        places = admission()
        seen = [places.quality()]
        for _ in range(PLACES):
            await places.enter(None)
            seen.append(places.quality())

        assert seen[:5] == [1.0] * 5
        assert seen[5:] == pytest.approx([0.8125, 0.625, 0.4375, LEAST_QUALITY])

    run(check())


def test_quality_stays_at_its_least_when_the_limit_fell_below_what_is_in_flight() -> None:
    async def check() -> None:
        now = [0.0]
        places = Admission(AdaptiveLimit(monotonic=lambda: now[0]))
        await entered(places, 32)
        while places.limit > 16:
            now[0] += 1.0
            places.observe(1.0)

        assert places.quality() == LEAST_QUALITY
        with pytest.raises(Overloaded):
            await places.enter(None)

    run(check())


@pytest.mark.parametrize(
    ("latency_s", "retry_after_s"),
    [(None, DEFAULT_RETRY_AFTER_S), (0.001, 0.025), (0.2, 0.2), (30.0, 1.0)],
)
def test_a_refused_caller_is_told_to_come_back_after_the_present_latency(
    latency_s: float | None, retry_after_s: float
) -> None:
    async def check() -> None:
        now = [0.0]
        rules = LimitRules(initial=1, minimum=1, maximum=1)
        places = Admission(AdaptiveLimit(rules, lambda: now[0]))
        await places.enter(None)
        for _ in range(10 if latency_s is not None else 0):
            now[0] += 1.0
            places.observe(latency_s or 0.0)

        with pytest.raises(Overloaded) as caught:
            await places.enter(None)

        assert caught.value.retry_after_s == retry_after_s

    run(check())


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["hurried", "patient", "leave", "cancel", "turn"]), st.integers(0)),
    max_size=120,
)


@settings(deadline=None, max_examples=150)
@given(ACTIONS)
def test_no_order_of_events_loses_a_place_or_gives_one_twice(
    actions: list[tuple[str, int]],
) -> None:
    async def check() -> None:
        places = admission(4)
        tasks: list[asyncio.Task[None]] = []
        for action, number in actions:
            inside = [task for task in tasks if task.done() and not task.cancelled()]
            inside = [task for task in inside if task.exception() is None]
            if action in {"hurried", "patient"}:
                remaining_s = HURRIED_S if action == "hurried" else PATIENT_S
                tasks.append(asyncio.create_task(places.enter(remaining_s)))
            elif action == "leave" and inside:
                tasks.remove(inside[number % len(inside)])
                places.leave()
            elif action == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            else:
                await asyncio.sleep(0)
            assert 0 <= places.in_flight <= 4
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        inside = [task for task in tasks if not task.cancelled() and task.exception() is None]
        assert (places.in_flight, places.waiting) == (len(inside), 0)

    run(check())


def test_a_pool_counts_only_the_calls_that_wait_for_a_thread() -> None:
    release = threading.Event()
    with CallPool(2, max_waiting=3) as pool:
        futures = []
        counts = []
        for _ in range(5):
            counts.append((pool.waiting, pool.is_full))
            futures.append(pool.submit(release.wait, DEADLINE_S))
        counts.append((pool.waiting, pool.is_full))
        release.set()
        wait(futures)

    assert counts == [(0, False), (0, False), (0, False), (1, False), (2, False), (3, True)]
    assert (pool.waiting, pool.room) == (0, 5)


def test_a_pool_that_was_shut_down_counts_nothing_that_it_refused() -> None:
    with CallPool(1, max_waiting=1) as pool:
        pass

    for _ in range(3):
        with pytest.raises(RuntimeError):
            pool.submit(threading.get_ident)

    assert not pool.is_full
