"""Progress that measures what it shows."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import pytest

from pipeline.progress import MeasuredSteps

T = TypeVar("T")


class Told:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, description: str) -> AbstractContextManager[None]:
        self.said.append(description)
        return nullcontext()

    def track(self, things: Sequence[T], description: str) -> Iterable[T]:
        self.said.append(f"{description}: {len(things)}")
        return things


def test_steps_are_shown_and_measured_in_the_order_that_they_end() -> None:
    told = Told()
    measured = MeasuredSteps(told)

    with measured.step("reading"):
        pass
    used = list(measured.track([3, 4], "asking"))

    assert used == [3, 4]
    assert told.said == ["reading", "asking: 2"]
    assert [step.description for step in measured.taken] == ["reading", "asking"]
    assert all(step.seconds >= 0 for step in measured.taken)


def test_a_step_that_fails_is_not_among_those_taken() -> None:
    measured = MeasuredSteps(Told())

    with pytest.raises(ValueError, match="broken"), measured.step("reading"):
        raise ValueError("broken")

    assert measured.taken == []


HUNGRY = """
from contextlib import nullcontext
from pipeline.progress import MeasuredSteps

class Quiet:
    def step(self, _):
        return nullcontext()

measured = MeasuredSteps(Quiet())
for mib in (1, 100, 1):
    with measured.step(""):
        much = bytearray(mib << 20)
        much[::4096] = bytes([1]) * len(much[::4096])
print(*(step.peak_mib for step in measured.taken))
"""


def test_a_step_that_needs_memory_raises_the_peak_for_good() -> None:
    # In a process of its own: this one may have held more before.
    done = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, check=True)

    before, much, after = map(float, done.stdout.split())
    assert before + 90 < much < before + 210
    assert after >= much
