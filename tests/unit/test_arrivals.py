"""Waits are told from the time that calls have left, and one short deadline is no queue."""

from collections.abc import Iterable

import pytest

from meshkit.arrivals import MAX_PEERS, PROMPT, RECENT, RECENT_S, REMEMBERED_S, TARGET_S, Arrivals

TIMEOUT_S = 0.2


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def after(*remaining_s: Iterable[float], every_s: float = 0.005) -> tuple[Arrivals, Clock]:
    """Return what calls left behind that came one after another, each list of another peer."""
    clock = Clock()
    arrivals = Arrivals(clock)
    for number, of_peer in enumerate(remaining_s):
        for each in of_peer:
            clock.now_s += every_s
            arrivals.wait_s(f"peer-{number}", each)
    return arrivals, clock


def test_a_call_with_as_much_time_as_ever_did_not_wait() -> None:
    arrivals, _ = after([TIMEOUT_S] * 3)

    assert arrivals.wait_s("peer-0", TIMEOUT_S) == 0.0
    assert arrivals.wait_s("peer-0", TIMEOUT_S + 1.0) == 0.0


def test_a_call_with_less_time_than_its_connection_brings_waited() -> None:
    arrivals, _ = after([TIMEOUT_S])

    assert arrivals.wait_s("peer-0", 0.05) == pytest.approx(0.15)


def test_connections_are_told_apart() -> None:
    arrivals, _ = after([TIMEOUT_S])

    assert arrivals.wait_s("another", 0.05) == 0.0


def test_calls_that_all_waited_are_queued() -> None:
    arrivals, _ = after([TIMEOUT_S] * RECENT + [TIMEOUT_S - 2 * TARGET_S] * RECENT)

    assert arrivals.are_queued()


def test_calls_that_waited_a_little_are_not() -> None:
    arrivals, _ = after([TIMEOUT_S] * RECENT + [TIMEOUT_S - TARGET_S / 2] * RECENT)

    assert not arrivals.are_queued()


def test_short_deadlines_among_long_ones_are_no_queue() -> None:
    some_long = [TIMEOUT_S] * (PROMPT + 1) + [0.05] * (RECENT - PROMPT - 1)

    arrivals, _ = after(some_long * 4)

    assert not arrivals.are_queued()


def test_a_few_calls_are_no_queue() -> None:
    few, _ = after([TIMEOUT_S] + [0.05] * (RECENT - 2))
    rare, _ = after([TIMEOUT_S] + [0.05] * RECENT * 2, every_s=2 * RECENT_S / RECENT)

    assert not few.are_queued()
    assert not rare.are_queued()


def test_a_queue_that_nobody_joins_any_more_is_over() -> None:
    arrivals, clock = after([TIMEOUT_S] * RECENT + [0.05] * RECENT)
    assert arrivals.are_queued()

    clock.now_s += 2 * RECENT_S

    assert not arrivals.are_queued()


def test_a_connection_that_brings_less_from_now_on_is_believed_after_a_while() -> None:
    arrivals, clock = after([TIMEOUT_S])
    for _ in range(3):
        clock.now_s += REMEMBERED_S + 1.0
        arrivals.wait_s("peer-0", 0.05)

    assert arrivals.wait_s("peer-0", 0.05) == 0.0


def test_a_long_queue_is_not_taken_for_the_usual_while_some_calls_come_at_once() -> None:
    arrivals, clock = after([TIMEOUT_S])
    for number in range(1000):
        clock.now_s += 0.5
        arrivals.wait_s("peer-0", TIMEOUT_S if number % 50 == 0 else 0.05)

    assert arrivals.wait_s("peer-0", 0.05) == pytest.approx(0.15)


def test_peers_are_forgotten_when_there_are_too_many() -> None:
    arrivals, _ = after(*([[TIMEOUT_S]] * (MAX_PEERS + 1)))

    assert arrivals.wait_s("peer-0", 0.05) == 0.0
    assert arrivals.wait_s(f"peer-{MAX_PEERS}", 0.05) == pytest.approx(0.15)


def test_the_usual_wait_is_that_of_the_middle_and_none_where_calls_are_few() -> None:
    steady, clock = after([TIMEOUT_S] * RECENT + [TIMEOUT_S - 0.01] * RECENT)
    few, _ = after([TIMEOUT_S, 0.05, 0.05])

    assert steady.usual_wait_s() == pytest.approx(0.01)
    assert few.usual_wait_s() == 0.0
    clock.now_s += 2 * RECENT_S
    assert steady.usual_wait_s() == 0.0
