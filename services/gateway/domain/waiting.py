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
    tasks = [asyncio.ensure_future(work) for work in works]
    for task in tasks:
        _unfinished.add(task)
        task.add_done_callback(_unfinished.discard)
    done, _ = await asyncio.wait(tasks, timeout=limit_s)
    return [task.result() if task in done else None for task in tasks]
