"""Waiting for several things for a limited time, without cancelling what comes too late."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_unfinished: set["asyncio.Task[Any]"] = set()
"""What nobody waits for any more; the event loop itself holds tasks weakly."""


async def results_within(works: Sequence[Coroutine[Any, Any, T]], limit_s: float) -> list[T | None]:
    """Return the result of each of `works`, None for those not done after `limit_s`.

    Those go on by themselves and must end by themselves. Raises what one that is done raised.
    """
    if not works:
        return []
    loop = asyncio.get_running_loop()
    enough: asyncio.Future[None] = loop.create_future()
    waited_for = len(works)

    def end(task: "asyncio.Task[T]") -> None:
        nonlocal waited_for
        _unfinished.discard(task)
        waited_for -= 1
        if waited_for == 0:
            _settle(enough)

    tasks = [loop.create_task(work) for work in works]
    for task in tasks:
        _unfinished.add(task)
        task.add_done_callback(end)
    timer = loop.call_later(limit_s, _settle, enough)
    try:
        await enough
    finally:
        timer.cancel()
    return [task.result() if task.done() else None for task in tasks]


def _settle(enough: "asyncio.Future[None]") -> None:
    if not enough.done():
        enough.set_result(None)
