"""Waiting for several things: what is late is left behind, and not cancelled."""

import asyncio

import pytest

from services.gateway.domain.waiting import results_within


def test_results_come_in_the_order_of_the_works() -> None:
    async def after(turns: int, result: str) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return result

    assert asyncio.run(results_within([after(3, "a"), after(1, "b")], 60)) == ["a", "b"]


def test_what_is_late_is_none_and_goes_on_by_itself() -> None:
    async def check() -> tuple[list[str | None], str]:
        gate, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def late() -> str:
            await gate.wait()
            ended.set_result("went on")
            return "late"

        async def prompt() -> str:
            return "prompt"

        results = await results_within([late(), prompt()], 0.01)
        gate.set()
        return results, await asyncio.wait_for(ended, 5)

    assert asyncio.run(check()) == ([None, "prompt"], "went on")


def test_a_limit_that_has_passed_still_takes_what_needs_no_waiting() -> None:
    async def at_once() -> str:
        return "at once"

    assert asyncio.run(results_within([at_once()], -1.0)) == ["at once"]


def test_nothing_to_wait_for_is_no_wait() -> None:
    assert asyncio.run(results_within([], 60)) == []


def test_what_a_work_raises_is_raised() -> None:
    async def broken() -> str:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        asyncio.run(results_within([broken()], 60))
