"""Clocks."""

import time

from meshkit.clock import Clock, FixedClock, WallClock


def test_a_fixed_clock_never_moves() -> None:
    clock: Clock = FixedClock(12.5)

    assert clock.now_s() == clock.now_s() == 12.5


def test_the_wall_clock_tells_unix_time() -> None:
    clock: Clock = WallClock()
    before_s = time.time()

    now_s = clock.now_s()

    assert before_s <= now_s <= time.time()
