"""Asking for many users: who to ask for, asking with bounded concurrency, writing the slates."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import Progress

from recmesh_client import InvalidRequest, Overloaded, Recommendation, RecommendError

CONCURRENT_CALLS = 16  # keeps a local mesh busy without queueing past the batch budget
LONGEST_PAUSE_S = 5.0  # before asking again, however long the service wants us to wait

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

    The outcomes are in the order of `user_ids`.
    """
    outcomes = await _ask_for_each(user_ids, ask, progress, "recommending")
    failed = [user_id for user_id in user_ids if _may_pass(outcomes[user_id])]
    if failed:
        await asyncio.sleep(_pause_s(outcomes.values()))
        outcomes |= await _ask_for_each(failed, ask, progress, "asking again")
    return {user_id: outcomes[user_id] for user_id in user_ids}


async def _ask_for_each(
    user_ids: Sequence[str], ask: Ask, progress: Progress, title: str
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    waiting = iter(progress.track(user_ids, description=title))

    async def work() -> None:
        for user_id in waiting:
            try:
                outcomes[user_id] = _slate(await ask(user_id))
            except RecommendError as exc:
                outcomes[user_id] = exc

    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENT_CALLS):
            workers.create_task(work())
    return outcomes


def _slate(recommendation: Recommendation) -> Slate:
    item_ids = tuple(item.item_id for item in recommendation.items)
    return Slate(item_ids, recommendation.coverage.degraded)


def _may_pass(outcome: Outcome) -> bool:
    return isinstance(outcome, RecommendError) and not isinstance(outcome, InvalidRequest)


def _pause_s(outcomes: Iterable[Outcome]) -> float:
    wanted_s = [o.retry_after_s for o in outcomes if isinstance(o, Overloaded) and o.retry_after_s]
    return min(max(wanted_s, default=0.0), LONGEST_PAUSE_S)


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
