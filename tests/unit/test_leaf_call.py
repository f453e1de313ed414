"""A call to a leaf: one attempt, or two where the first is slow; never an exception."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from services.gateway.adapters.leaf_call import (
    FAILURES,
    Answered,
    Failed,
    Leaf,
    LeafCall,
    retry_codes,
)
from services.gateway.domain.failures import RULES, Again, CallPolicy, Failure
from services.gateway.domain.hedging import MOST_SAVED, RENEWED_EVERY, Hedging

Step = Callable[[], Awaitable[Any]]

LEAF = Leaf("leaf", "test.LeafService/Ask")


class ScriptedMethod:
    """Does one step a call, the last one for ever, and remembers the timeouts."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.timeouts_s: list[float] = []

    async def __call__(self, _request: object, *, timeout: float, metadata: object) -> Any:
        del metadata
        self.timeouts_s.append(timeout)
        return await (self._steps.pop(0) if len(self._steps) > 1 else self._steps[0])()


def answer(text: str) -> Step:
    async def step() -> str:
        return text

    return step


def fail(code: grpc.StatusCode) -> Step:
    async def step() -> str:
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())

    return step


class Gate:
    """A step that waits until it is opened."""

    def __init__(self, then: Step) -> None:
        self._then = then
        self._opened = asyncio.Event()

    async def __call__(self) -> Any:
        await self._opened.wait()
        return await self._then()

    def open(self) -> None:
        self._opened.set()


def saved_up() -> Hedging:
    """Return hedging that knows a leaf which answers within a millisecond."""
    hedging = Hedging()
    for _ in range(RENEWED_EVERY * 4):
        hedging.answered(0.0005)
    return hedging


async def call(method: ScriptedMethod, hedging: Hedging | None = None) -> Answered[Any] | Failed:
    return await LeafCall[Any](LEAF, method, hedging)("request", timeout_s=30.0)


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_every_code_is_a_failure_of_the_policy(code: grpc.StatusCode) -> None:
    result = asyncio.run(call(ScriptedMethod(fail(code))))

    assert isinstance(result, Failed)
    assert result.failure is FAILURES.get(code, Failure.BROKEN)


def test_an_answer_that_cannot_be_decoded_is_broken() -> None:
    result = asyncio.run(call(ScriptedMethod(answer(None))))  # type: ignore[arg-type]  # what grpc.aio makes of it

    assert isinstance(result, Failed)
    assert result.failure is Failure.BROKEN


def test_a_slow_call_is_made_again_and_the_first_answer_wins() -> None:
    async def check() -> None:
        slow = Gate(answer("slow"))
        method = ScriptedMethod(slow, answer("second"))

        result = await call(method, saved_up())
        slow.open()

        assert isinstance(result, Answered)
        assert (result.response, result.is_hedged) == ("second", True)
        assert method.timeouts_s[0] == 30.0
        assert 0 < method.timeouts_s[1] < 30.0

    asyncio.run(check())


def test_a_second_call_that_fails_leaves_the_first_its_time() -> None:
    async def check() -> None:
        slow = Gate(answer("slow"))
        method = ScriptedMethod(slow, fail(grpc.StatusCode.UNAVAILABLE))
        asking = asyncio.ensure_future(call(method, saved_up()))
        while len(method.timeouts_s) < 2:
            await asyncio.sleep(0)
        slow.open()

        result = await asking

        assert isinstance(result, Answered)
        assert result.response == "slow"

    asyncio.run(check())


def test_two_calls_that_fail_are_one_failure() -> None:
    async def check() -> None:
        slow = Gate(fail(grpc.StatusCode.DEADLINE_EXCEEDED))
        method = ScriptedMethod(slow, fail(grpc.StatusCode.INTERNAL))
        asking = asyncio.ensure_future(call(method, saved_up()))
        while len(method.timeouts_s) < 2:
            await asyncio.sleep(0)
        slow.open()

        result = await asking

        assert isinstance(result, Failed)
        assert result.failure is Failure.LATE
        assert result.is_hedged

    asyncio.run(check())


def test_in_an_outage_the_extra_calls_end() -> None:
    async def check() -> None:
        hedging = saved_up()

        async def hang() -> str:
            await asyncio.sleep(0.003)
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata()
            )

        method = ScriptedMethod(hang)
        leaf = LeafCall[Any](LEAF, method, hedging)
        results = [await leaf("request", timeout_s=30.0) for _ in range(40)]

        assert all(isinstance(each, Failed) for each in results)
        assert len(method.timeouts_s) <= 40 + MOST_SAVED
        assert not results[-1].is_hedged

    asyncio.run(check())


def test_without_hedging_no_call_is_made_twice() -> None:
    async def check() -> None:
        slow = Gate(answer("slow"))
        method = ScriptedMethod(slow)
        asking = asyncio.ensure_future(call(method))
        while not method.timeouts_s:
            await asyncio.sleep(0)
        slow.open()
        await asking

        assert len(method.timeouts_s) == 1

    asyncio.run(check())


def test_only_what_the_table_says_is_tried_again_by_the_channel() -> None:
    assert retry_codes(CallPolicy(timeout_s=1.0)) == (grpc.StatusCode.UNAVAILABLE,)
    assert retry_codes(CallPolicy(timeout_s=1.0, retries=False)) == ()


def test_the_table_has_a_rule_for_every_failure_and_each_way_to_ask_again_once() -> None:
    assert set(RULES) == set(Failure)
    again = [rule.again for rule in RULES.values() if rule.again is not Again.NO]
    assert sorted(each.name for each in again) == ["HEDGE", "REQUEST", "RETRY"]
