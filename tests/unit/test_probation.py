"""Probation: whatever a child does, its parent gets a verdict."""

import os
import time
from pathlib import Path

import pytest

from meshkit.probation import Verdict, on_probation

MODULE = "tests.probation_child"


def verdict(*arguments: str, time_limit_s: float = 30) -> Verdict:
    return on_probation(MODULE, arguments, time_limit_s=time_limit_s)


def test_a_child_that_ends_well_is_sound() -> None:
    assert verdict("end well") == Verdict(is_sound=True, reason="")


def test_a_child_gets_its_arguments_as_they_are() -> None:
    assert verdict("compare", "a b", "--c", "").is_sound


def test_the_last_line_that_a_failed_child_said_is_the_reason() -> None:
    assert verdict("refuse") == Verdict(is_sound=False, reason="annoy.index: is broken")


def test_a_child_that_says_nothing_is_refused_by_its_status() -> None:
    assert verdict("refuse silently") == Verdict(
        is_sound=False, reason="ended with status 3 and said nothing"
    )


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_crash_is_named_with_what_was_last_said(name: str) -> None:
    assert verdict("crash", name) == Verdict(
        is_sound=False, reason=f"crashed with {name}; last: checking annoy.index"
    )


def test_a_real_segmentation_fault_is_a_verdict() -> None:
    found = verdict("read address 0")

    assert not found.is_sound
    assert found.reason.startswith("crashed with SIGSEGV")


@pytest.mark.parametrize("how", ["sleep", "spin", "ignore signals"])
def test_a_child_that_does_not_end_is_ended(how: str) -> None:
    for limit_s in (1.5, 6.0, 24.0):  # on a slow machine it may take the first just to begin
        found = verdict(how, time_limit_s=limit_s)
        if "last: " in found.reason:
            break

    assert not found.is_sound
    assert found.reason in {
        f"no end in {limit_s:g} s; last: checking annoy.index",
        "crashed with SIGXCPU; last: checking annoy.index",
    }


def test_a_child_that_wants_too_much_memory_is_refused() -> None:
    found = on_probation(MODULE, ["fill memory"], memory_limit_bytes=1 << 28)

    assert not found.is_sound
    assert "MemoryError" in found.reason


def test_a_child_that_says_too_much_is_refused() -> None:
    found = verdict("talk")

    assert not found.is_sound
    assert len(found.reason) <= 500


def test_control_characters_do_not_reach_the_reason() -> None:
    assert verdict("colour").reason == "[31mred [0m"


def test_a_module_that_does_not_exist_is_refused_by_name() -> None:
    found = on_probation("tests.no_such_module", [])

    assert not found.is_sound
    assert "no_such_module" in found.reason


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_no_child_is_left_behind() -> None:
    before = _children()

    verdict("sleep", time_limit_s=0.5)

    assert _children() <= before


def test_a_child_whose_parent_dies_ends_by_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("orphan") / "pid"
    assert not verdict("die and leave a child", str(file)).is_sound

    orphan = int(file.read_text())
    deadline = time.monotonic() + 60
    while _is_running(orphan):
        assert time.monotonic() < deadline, "the orphan goes on"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a file of the kernel
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
