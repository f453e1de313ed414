"""The gateway's pin moves when every leaf is ready, and what it left goes when nothing uses it."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshkit.call_log import CallLog
from meshkit.shelf import Shelf
from services.gateway.adapters.rollout import Rollout
from services.gateway.domain.pins import Edition, Pins
from services.gateway.domain.recommend import Budget
from services.gateway.domain.values import Answer, Ask

ASK = Ask("", 20, "", (), ())


@dataclass(slots=True)
class FakeLeaves:
    """Hold what a test says, and remember what they were asked for."""

    holding: set[str]
    asked: list[str] = field(default_factory=list)

    async def hold(self, version: str) -> bool:
        self.asked.append(version)
        return version in self.holding


@dataclass(slots=True)
class FakeRecommender:
    """Answers with its version; waits for `released` where there is one."""

    version: str
    moved_times: int = 0
    released: asyncio.Event | None = None

    @property
    def bundle(self) -> SimpleNamespace:
        return SimpleNamespace(version=self.version)

    async def recommend(self, _ask: Ask, _budget: Budget, _quality: float) -> Any:
        if self.released is not None:
            await self.released.wait()
        self.moved_times -= 1
        return SimpleNamespace(bundle_version=self.version, version_moved=self.moved_times >= 0)


class World:
    """A rollout between a shelf and leaves that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.shelf = Shelf[str](lambda: self.now_s)
        self.leaves = FakeLeaves({"v1"})
        self.pins = Pins()
        self.withdrawn: list[str] = []
        self.rollout = Rollout(
            self.shelf,
            self.leaves,
            self.pins,
            issue=self._issue,
            withdraw=self._withdraw,
            call_log=CallLog(None, "gateway"),
        )
        self.shelf.put("v1", "v1")

    @property
    def pinned(self) -> str | None:
        return None if self.pins.current is None else self.pins.current.version

    def drop(self, version: str) -> None:
        self.shelf.take_off(version)

    async def _issue(self, held: str) -> Edition:
        return edition_of(FakeRecommender(held))

    async def _withdraw(self, edition: Edition) -> None:
        self.withdrawn.append(edition.version)


def edition_of(recommender: FakeRecommender) -> Edition:
    return Edition(cast("Any", recommender), cast("Any", f"texts of {recommender.version}"))


@pytest.fixture
def world() -> World:
    return World()


def recommender_of(pins: Pins) -> FakeRecommender:
    assert pins.current is not None
    return cast("FakeRecommender", pins.current.recommender)


def test_the_pin_waits_for_every_leaf(world: World) -> None:
    async def scenario() -> tuple[str | None, str | None]:
        await world.rollout.start()
        world.shelf.put("v2", "v2")
        await world.rollout.turn()
        before = world.pinned
        world.leaves.holding.add("v2")
        await world.rollout.turn()
        return before, world.pinned

    assert asyncio.run(scenario()) == ("v1", "v2")


def test_leaves_are_kept_from_dropping_what_is_pinned(world: World) -> None:
    async def scenario() -> None:
        await world.rollout.start()
        world.shelf.put("v2", "v2")
        world.leaves.asked.clear()
        await world.rollout.turn()

    asyncio.run(scenario())

    assert world.leaves.asked == ["v2", "v1"]


def test_the_gateways_own_shelf_keeps_what_is_pinned(world: World) -> None:
    async def scenario() -> None:
        await world.rollout.start()
        world.shelf.put("v2", "v2")
        world.now_s = 10.0
        await world.rollout.turn()

    asyncio.run(scenario())

    assert world.shelf.idle(5.0) == ()


def test_an_edition_is_withdrawn_when_its_version_has_left_the_shelf(world: World) -> None:
    async def scenario() -> list[str]:
        await world.rollout.start()
        world.shelf.put("v2", "v2")
        world.leaves.holding.add("v2")
        await world.rollout.turn()
        held = list(world.withdrawn)
        world.drop("v1")
        await world.rollout.turn()
        return held

    assert asyncio.run(scenario()) == []
    assert world.withdrawn == ["v1"]


def test_an_edition_that_a_request_uses_is_not_withdrawn(world: World) -> None:
    async def scenario() -> tuple[list[str], Answer]:
        await world.rollout.start()
        released = recommender_of(world.pins).released = asyncio.Event()
        request = asyncio.create_task(world.pins.recommend(ASK, cast("Any", None)))
        await asyncio.sleep(0)
        world.shelf.put("v2", "v2")
        world.leaves.holding.add("v2")
        await world.rollout.turn()
        world.drop("v1")
        await world.rollout.turn()
        used = list(world.withdrawn)
        released.set()
        answer, texts = await request
        assert texts == cast("Any", "texts of v1")
        await world.rollout.turn()
        return used, answer

    used, answer = asyncio.run(scenario())

    assert used == []
    assert answer.bundle_version == "v1"
    assert world.withdrawn == ["v1"]


def test_going_back_uses_the_edition_that_is_still_there(world: World) -> None:
    async def scenario() -> bool:
        await world.rollout.start()
        first = world.pins.current
        for version in ("v2", "v1"):
            world.shelf.put(version, version)
            world.leaves.holding.add(version)
            await world.rollout.turn()
        return world.pins.current is first

    assert asyncio.run(scenario())


def test_a_request_whose_version_moved_is_made_again_of_the_version_that_is_current_then(
    world: World,
) -> None:
    async def scenario() -> tuple[Answer, Any]:
        await world.rollout.start()
        old = recommender_of(world.pins)
        old.moved_times, old.released = 1, asyncio.Event()
        request = asyncio.create_task(world.pins.recommend(ASK, cast("Any", None)))
        await asyncio.sleep(0)
        world.pins.move(edition_of(FakeRecommender("v2")))
        old.released.set()
        return await request

    answer, texts = asyncio.run(scenario())

    assert answer.bundle_version == "v2"
    assert texts == "texts of v2"


def test_a_request_is_made_twice_at_most(world: World) -> None:
    async def scenario() -> Answer:
        await world.rollout.start()
        recommender_of(world.pins).moved_times = 5
        answer, _ = await world.pins.recommend(ASK, cast("Any", None))
        return answer

    assert asyncio.run(scenario()).version_moved
    assert recommender_of(world.pins).moved_times == 3
