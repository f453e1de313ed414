"""A shelf's versions come and go, and what goes wrong with one leaves the others in service."""

from dataclasses import dataclass, field

import pytest

from meshkit.bundles import BundleError
from meshkit.config import ConfigError
from meshkit.shelf import MAX_REFUSALS, Refusal, Shelf, ShelfKeeper, ShelfSettings

HOLD_S = 10.0
SETTINGS = ShelfSettings(poll_s=1.0, hold_s=HOLD_S)


@dataclass(slots=True)
class World:
    """A store whose pointer a test moves, a keeper that a test turns, a clock that it winds."""

    now_s: float = 0.0
    points_at: str | Exception = "v1"
    faults: dict[str, Exception] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    announced: list[tuple[str, bool]] = field(default_factory=list)
    shelf: Shelf[str] = field(init=False)
    keeper: ShelfKeeper[str] = field(init=False)

    def __post_init__(self) -> None:
        self.shelf = Shelf(lambda: self.now_s)
        self.keeper = ShelfKeeper(
            self.shelf,
            self._pointer,
            self._load,
            SETTINGS,
            announce=lambda version, is_held: self.announced.append((version, is_held)),
            discard=self.discarded.append,
        )
        self.keeper.close()  # so that no turn waits for clients to hear that a version goes

    def promote(self, version: str, *, after_s: float = 1.0) -> None:
        self.now_s += after_s
        self.points_at = version
        self.keeper.turn()

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.keeper.turn()

    def _pointer(self) -> str:
        if isinstance(self.points_at, Exception):
            raise self.points_at
        return self.points_at

    def _load(self, version: str) -> str:
        self.loaded.append(version)
        if version in self.faults:
            raise self.faults[version]
        return f"content of {version}"


@pytest.fixture
def world() -> World:
    world = World()
    world.keeper.turn()
    return world


def test_the_version_pointed_at_is_loaded_once_and_served(world: World) -> None:
    world.pass_s(1)

    assert world.loaded == ["v1"]
    assert world.shelf.current() == "v1"
    assert world.shelf.get("v1") == "content of v1"


def test_after_a_promotion_both_versions_can_be_asked_for(world: World) -> None:
    world.promote("v2")

    assert world.shelf.current() == "v2"
    assert world.shelf.get("v1") == "content of v1"
    assert world.shelf.versions() == ("v1", "v2")


def test_a_replaced_version_goes_hold_s_after_it_was_replaced(world: World) -> None:
    world.promote("v2")

    world.pass_s(HOLD_S - 0.1)
    before = world.shelf.versions()
    world.pass_s(0.1)

    assert before == ("v1", "v2")
    assert world.shelf.versions() == ("v2",)
    assert world.discarded == ["content of v1"]


def test_a_version_that_is_asked_for_stays(world: World) -> None:
    world.promote("v2")

    for _ in range(5):
        world.pass_s(HOLD_S - 0.1)
        assert world.shelf.get("v1") == "content of v1"
    world.pass_s(HOLD_S)

    assert world.shelf.get("v1") is None


def test_the_current_version_stays_though_nobody_asks_for_it(world: World) -> None:
    world.pass_s(100 * HOLD_S)

    assert world.shelf.get("v1") == "content of v1"


def test_rolling_back_within_hold_s_loads_nothing(world: World) -> None:
    world.promote("v2")
    world.promote("v1")

    assert world.shelf.current() == "v1"
    assert world.loaded == ["v1", "v2"]


def test_a_version_that_left_is_loaded_again(world: World) -> None:
    world.promote("v2")
    world.pass_s(HOLD_S)
    world.promote("v1")

    assert world.shelf.current() == "v1"
    assert world.loaded == ["v1", "v2", "v1"]


def test_a_refused_version_leaves_the_old_one_in_service_and_is_not_tried_again(
    world: World,
) -> None:
    world.faults["v2"] = BundleError("annoy.index\nis damaged")

    world.promote("v2")
    world.pass_s(HOLD_S)

    assert world.shelf.current() == "v1"
    assert world.loaded == ["v1", "v2"]
    assert world.shelf.refusals() == (Refusal("v2", "annoy.index is damaged"),)


def test_a_refused_version_is_tried_again_once_the_pointer_has_moved(world: World) -> None:
    world.faults["v2"] = MemoryError()
    world.promote("v2")
    del world.faults["v2"]

    world.promote("v1")
    still_refused = world.shelf.refusals()
    world.promote("v2")

    assert still_refused == (Refusal("v2", "MemoryError"),)
    assert world.shelf.current() == "v2"
    assert world.shelf.refusals() == ()


def test_what_is_remembered_of_refusals_is_limited(world: World) -> None:
    for number in range(2 * MAX_REFUSALS):
        world.faults[f"bad-{number}"] = BundleError("damaged")
        world.promote(f"bad-{number}")

    refused = [each.version for each in world.shelf.refusals()]
    assert refused == [f"bad-{number}" for number in range(MAX_REFUSALS, 2 * MAX_REFUSALS)]


def test_a_store_that_cannot_be_read_changes_nothing_but_is_told_of(world: World) -> None:
    world.points_at = BundleError("the store is gone")
    world.pass_s(HOLD_S)
    told = world.shelf.refusals()
    world.promote("v1")

    assert told == (Refusal("CURRENT", "the store is gone"),)
    assert world.shelf.current() == "v1"
    assert world.shelf.refusals() == ()


def test_nothing_is_served_before_a_good_version_comes() -> None:
    world = World(faults={"v1": BundleError("damaged")})

    world.keeper.turn()
    was_waiting = world.keeper.waiting()
    world.promote("v2")

    assert was_waiting
    assert not world.keeper.waiting()
    assert world.shelf.current() == "v2"


def test_a_setting_at_fault_ends_the_wait_for_a_first_version() -> None:
    world = World(faults={"v1": ConfigError("RECMESH_X='?': no such thing")})

    with pytest.raises(ConfigError, match="RECMESH_X"):
        world.keeper.turn()


def test_versions_are_announced_once_the_server_is_ready_and_as_they_come_and_go(
    world: World,
) -> None:
    before = list(world.announced)
    world.keeper.announce_held()
    world.promote("v2")
    world.pass_s(HOLD_S)

    assert before == []
    assert world.announced == [("v1", True), ("v2", True), ("v1", False)]


def test_who_uses_a_version_keeps_it_though_it_was_dropped(world: World) -> None:
    held = world.shelf.get("v1")
    world.promote("v2")
    world.pass_s(HOLD_S)

    assert world.shelf.get("v1") is None
    assert held == "content of v1"
