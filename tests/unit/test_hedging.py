"""Hedging: only what is slower than most is called again, and only as much as answers pay for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.hedging import (
    EARNED,
    MOST_SAVED,
    RENEWED_EVERY,
    SCARCE_FACTOR,
    Hedging,
)
from tests.unit.gateway_world import CASES


def after(answers: int, latency_s: float = 0.010) -> Hedging:
    hedging = Hedging()
    for _ in range(answers):
        hedging.answered(latency_s)
    return hedging


def test_nothing_is_called_again_before_latencies_are_known() -> None:
    assert Hedging().delay_s() is None
    assert not Hedging().spend()


def test_the_delay_is_the_95th_percentile_of_what_was_answered() -> None:
    hedging = Hedging()
    for latency_ms in range(RENEWED_EVERY * 3):
        hedging.answered(latency_ms / 1e3)

    expected = float(np.quantile(np.arange(RENEWED_EVERY * 3) / 1e3, 0.95))
    assert hedging.delay_s() == expected


def test_a_few_slow_calls_do_not_move_the_delay() -> None:
    hedging = after(300)
    for _ in range(6):
        hedging.answered(0.1)
    for _ in range(RENEWED_EVERY):
        hedging.answered(0.010)

    assert hedging.delay_s() == 0.010


def test_old_latencies_are_forgotten() -> None:
    hedging = after(600, 0.010)
    for _ in range(1000):
        hedging.answered(0.050)

    assert hedging.delay_s() == 0.050


def test_a_leaf_that_answers_nothing_gets_no_more_than_what_was_saved() -> None:
    hedging = after(10_000)

    spent = 0
    while hedging.delay_s() is not None and hedging.spend():
        spent += 1

    assert spent == MOST_SAVED
    assert hedging.delay_s() is None


def test_when_little_is_saved_only_slower_calls_are_worth_it() -> None:
    hedging = after(10_000, 0.010)
    while hedging.delay_s() == 0.010:
        hedging.spend()

    assert hedging.delay_s() == pytest.approx(0.010 * SCARCE_FACTOR)
    for _ in range(200):
        hedging.answered(0.010)
    assert hedging.delay_s() == 0.010


@CASES
@given(st.lists(st.booleans(), max_size=600))
def test_second_calls_are_at_most_1_in_20_of_the_answers(wants_second: list[bool]) -> None:
    hedging = Hedging()
    spent = 0
    for wants in wants_second:
        hedging.answered(0.01)
        spent += wants and hedging.spend()

    assert spent <= EARNED * len(wants_second) + 1e-6
