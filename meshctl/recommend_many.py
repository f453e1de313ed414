"""Asking for many users: who to ask for, asking with bounded concurrency, writing the slates."""

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import Progress

from recmesh_client import InvalidRequest, Overloaded, Recommendation, RecommendError

CONCURRENT_CALLS = 16  # keeps a local mesh busy without queueing past the batch budget
CALLS_WHEN_SHED = 7  # with the pauses between them, over 6 s of a service that is overloaded
FIRST_PAUSE_S = 0.1  # where the service does not say how long to wait
LONGEST_PAUSE_S = 5.0  # however long it wants us to wait
JITTER = 0.5  # of a pause, on top of it, so that those that were shed together do not come together

Ask = Callable[[str], Awaitable[Recommendation]]


@dataclass(frozen=True, slots=True)
class UserList:
    """Users to ask for, each once, as first met; and how many lines were left out."""

    user_ids: tuple[str, ...]
    blank_lines: int
    repeated_lines: int


@dataclass(frozen=True, slots=True)
class Slate:
    """What is kept of one answer."""

    item_ids: tuple[str, ...]
    degraded: bool


Outcome = Slate | RecommendError


def users_from(content: bytes, name: str) -> UserList:
    """Read one user id a line, spaces and all; `name` is the file's, for messages.

    Raises ValueError when a line is not UTF-8 or no line names a user.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ValueError(f"{name}, line {line}: not UTF-8") from exc
    # Not splitlines(), which cuts an id at rarer separators too.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    named = [line for line in lines if line.strip()]
    if not named:
        raise ValueError(f"{name} names no user; need one user id a line")
    user_ids = tuple(dict.fromkeys(named))
    return UserList(user_ids, len(lines) - len(named), len(named) - len(user_ids))


async def ask_for_all(
    user_ids: Sequence[str], ask: Ask, *, progress: Progress
) -> Mapping[str, Outcome]:
    """Ask for every user, and once more for those whose call failed in a way that may pass.

    A call that is shed is made again after a pause, several times, before it
    counts as failed. The outcomes are in the order of `user_ids`.
    """
    outcomes = await _ask_for_each(user_ids, ask, progress, "recommending")
    failed = [user_id for user_id in user_ids if _may_pass(outcomes[user_id])]
    if failed:
        outcomes |= await _ask_for_each(failed, ask, progress, "asking again")
    return {user_id: outcomes[user_id] for user_id in user_ids}


async def _ask_for_each(
    user_ids: Sequence[str], ask: Ask, progress: Progress, title: str
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    waiting = iter(progress.track(user_ids, description=title))

    async def work() -> None:
        for user_id in waiting:
            outcomes[user_id] = await _outcome(ask, user_id)

    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENT_CALLS):
            workers.create_task(work())
    return outcomes


async def _outcome(ask: Ask, user_id: str) -> Outcome:
    try:
        return _slate(await _ask_politely(ask, user_id))
    except RecommendError as exc:
        return exc


async def _ask_politely(ask: Ask, user_id: str) -> Recommendation:
    for call in range(CALLS_WHEN_SHED - 1):
        try:
            return await ask(user_id)
        except Overloaded as exc:
            await asyncio.sleep(pause_s(exc.retry_after_s, call))
    return await ask(user_id)


def pause_s(retry_after_s: float | None, call: int) -> float:
    """Return how long to wait after shed call number `call`, from 0: doubling, with jitter."""
    wanted_s = (retry_after_s or FIRST_PAUSE_S) * 2.0**call
    return min(wanted_s, LONGEST_PAUSE_S) * random.uniform(1, 1 + JITTER)  # noqa: S311 - no secret


def _slate(recommendation: Recommendation) -> Slate:
    item_ids = tuple(item.item_id for item in recommendation.items)
    return Slate(item_ids, recommendation.coverage.degraded)


def _may_pass(outcome: Outcome) -> bool:
    return isinstance(outcome, RecommendError) and not isinstance(outcome, InvalidRequest)


def write_slates(path: Path, slates: Mapping[str, Slate]) -> None:
    """Replace `path` in one step with one JSON object a line: `user_id`, `item_ids`, `degraded`.

    Raises OSError, and leaves what was there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            for user_id, slate in slates.items():
                line = {"user_id": user_id} | asdict(slate)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
