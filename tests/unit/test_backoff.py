"""How long a process that ended waits for its next start."""

from meshctl.backoff import STEADY_S, Backoff


def pauses_s(backoff: Backoff, ends: int, *, was_asked_for: bool = False) -> list[float]:
    return [backoff.pause_s(was_asked_for=was_asked_for, served_s=1.0) for _ in range(ends)]


def test_pauses_double_from_half_a_second_to_ten() -> None:
    assert pauses_s(Backoff(), 7) == [0.5, 1, 2, 4, 8, 10, 10]


def test_an_end_that_was_asked_for_comes_without_a_first_pause_only() -> None:
    assert pauses_s(Backoff(), 4, was_asked_for=True) == [0, 0.5, 1, 2]


def test_an_end_that_was_asked_for_does_not_forget_earlier_faults() -> None:
    backoff = Backoff()
    pauses_s(backoff, 3)

    assert backoff.pause_s(was_asked_for=True, served_s=STEADY_S - 1) == 4


def test_a_process_that_served_for_long_starts_over() -> None:
    backoff = Backoff()
    pauses_s(backoff, 5)

    assert backoff.pause_s(was_asked_for=False, served_s=STEADY_S) == 0.5
    assert backoff.pause_s(was_asked_for=True, served_s=STEADY_S) == 0
    assert backoff.pause_s(was_asked_for=False, served_s=0) == 0.5
