"""A request's budget is the smaller of its limit and what its caller has left."""

import math

import pytest

from meshkit.deadlines import Budget


class Stopwatch:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("limit_s", "caller_remaining_s", "expected_s"),
    [
        (0.15, 1.0, 0.15),
        (0.15, 0.1, 0.1),
        (0.15, 0.0, 0.0),
        (0.15, -1.0, 0.0),
        (0.15, None, 0.15),
        (0.15, 9.2e9, 0.15),
        (0.15, math.inf, 0.15),
        (0.15, math.nan, 0.15),
    ],
)
def test_the_smaller_of_limit_and_caller_deadline_holds(
    limit_s: float, caller_remaining_s: float | None, expected_s: float
) -> None:
    budget = Budget.start(limit_s, caller_remaining_s, Stopwatch())

    assert budget.remaining_s() == pytest.approx(expected_s)


def test_the_budget_shrinks_as_time_passes_and_never_below_zero() -> None:
    watch = Stopwatch()
    budget = Budget.start(0.15, None, watch)

    watch.now_s += 0.1
    assert budget.remaining_s() == pytest.approx(0.05)

    watch.now_s += 0.1
    assert budget.remaining_s() == 0.0


def test_the_default_clock_is_the_monotonic_one() -> None:
    budget = Budget.start(60.0, None)

    assert 0.0 < budget.remaining_s() <= 60.0
