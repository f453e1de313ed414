"""Successors and companions, against the definitions in plain numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.event_log import Events
from pipeline.item_regressions import (
    SUCCESSOR_SCALES,
    SUCCESSOR_WINDOW,
    companions,
    successors,
)
from pipeline.pair_weights import GREATEST_STEP, Participants
from signals.bundle import Companions, PairWeights, Successors
from tests.unit.event_logs import events

Weights = NDArray[np.float64]
N_ITEMS = 9
UNPLAYED = 8
NEXT_RIDGE, TOGETHER_RIDGE = 700.0, 900.0
ALL = 100
"""More than there are items: all that were played take part."""
SOLVER_ERRORS = {"Successors": 5e-5, "Companions": 1e-6}
"""Of sums and solutions in float32, relative to the farthest weight from 0; successors leave fades
below 1e-5 out. A unit is 3e-5 of an item's farthest weight."""


def random_log(seed: int, *, plays_each: int, users: int = 40) -> Events:
    """Return plays that have an order to learn: each item is often followed by the next one."""
    random = np.random.default_rng(seed)
    played: list[int] = []
    for _ in range(users):
        for place in range(plays_each):
            follows = place > 0 and random.random() < 0.6
            played.append(
                (played[-1] + 1) % UNPLAYED if follows else int(random.integers(UNPLAYED))
            )
    return events(np.repeat(np.arange(users), plays_each).tolist(), played)


def two_tastes(users: int) -> Events:
    """Return plays of users who all have item 0, and else two items of one half of the others."""
    random = np.random.default_rng(1)
    plays = [
        [0, *(1 + 3 * (user % 2) + random.choice(3, 2, replace=False)).tolist()]
        for user in range(users)
    ]
    return events(np.repeat(np.arange(users), 3).tolist(), [row for one in plays for row in one])


def followers_in(
    log: Events, n_items: int = N_ITEMS, *, order: str = "time", most: int = ALL
) -> Successors:
    return successors(log, n_items, order=order, most=most, ridge=NEXT_RIDGE)


def together_in(
    log: Events, n_items: int = N_ITEMS, *, most: int = ALL, dropout: float = 0.0
) -> Companions:
    return companions(log, n_items, most=most, ridge=TOGETHER_RIDGE, dropout=dropout)


def sequences(log: Events) -> list[list[int]]:
    return [log.rows[log.users == user].tolist() for user in np.unique(log.users)]


def successor_weights(log: Events, taking_part: Sequence[int]) -> Weights:
    """Return the regression's weights [s, m, m] between `taking_part`, by its definition."""
    size, scales = len(taking_part), len(SUCCESSOR_SCALES)
    before = NEXT_RIDGE * np.eye(scales * size)
    after = np.zeros((scales * size, size))
    for plays in sequences(log):
        is_of = (np.array(plays)[:, None] == np.array(taking_part)).astype(np.float64)
        ago = np.arange(len(plays))[:, None] - np.arange(len(plays))
        fades = [
            np.exp(-(ago - 1.0) / s, where=ago > 0, out=np.zeros(ago.shape))
            for s in SUCCESSOR_SCALES
        ]
        is_near = np.abs(ago) <= SUCCESSOR_WINDOW
        before += np.block(
            [[is_of.T @ (is_near * (p.T @ q)) @ is_of for q in fades] for p in fades]
        )
        after += np.vstack([is_of.T @ (is_near * fade).T @ is_of for fade in fades])
    solution = np.asarray(np.linalg.solve(before, after), dtype=np.float64)
    return without_own(solution.reshape(scales, size, size))


def companion_weights(log: Events, taking_part: Sequence[int], dropout: float = 0.0) -> Weights:
    """Return EDLAE's weights [1, m, m] between `taking_part`, by its definition; EASE's with 0."""
    has = np.array([[row in plays for row in taking_part] for plays in sequences(log)])
    gram = has.T.astype(np.float64) @ has
    ridge = TOGETHER_RIDGE + dropout / (1 - dropout) * has.sum(axis=0)
    inverse = np.linalg.inv(gram + np.diag(ridge))
    weights = [[-inverse[i, j] / inverse[j, j] for j in range(len(gram))] for i in range(len(gram))]
    return without_own(np.array([weights]))


def without_own(weights: Weights) -> Weights:
    return weights * (1 - np.eye(weights.shape[1]))


def dense(regression: PairWeights) -> Weights:
    """Return the weights that steps and units stand for, [s, m, m]."""
    return regression.weights.astype(np.float64) * regression.units[:, :, None]


def assert_rounded(found: PairWeights, expected: Weights) -> None:
    """Check that steps stand for the expected weights, within half a unit."""
    assert found.weights.shape == expected.shape
    error = np.abs(dense(found) - expected)
    solver_error = SOLVER_ERRORS[type(found).__name__] * np.abs(expected).max()
    allowed = 0.5 * found.units[:, :, None] + solver_error
    assert (error <= allowed).all(), (error / allowed).max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("plays_each", [2, 40, 150], ids=["short", "long", "beyond the window"])
def test_successors_solve_the_regression_of_the_next_play(seed: int, plays_each: int) -> None:
    log = random_log(seed, plays_each=plays_each, users=60)

    found = followers_in(log)

    assert found.scales.tolist() == [np.float32(scale) for scale in SUCCESSOR_SCALES]
    assert_rounded(found, successor_weights(log, range(UNPLAYED)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("users", [40, 4_000])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.95])
def test_companions_are_those_of_the_closed_form(seed: int, users: int, dropout: float) -> None:
    log = random_log(seed, plays_each=6, users=users)

    found = together_in(log, dropout=dropout)

    assert found.scales.tolist() == [np.inf]
    assert_rounded(found, companion_weights(log, range(UNPLAYED), dropout))


def test_what_is_left_out_still_counts_as_time() -> None:
    log = random_log(7, plays_each=50)
    plays = np.bincount(log.rows, minlength=N_ITEMS)
    most_played = sorted(np.argsort(-plays, kind="stable")[:4].tolist())

    followers = followers_in(log, order="position", most=4)
    together = together_in(log, most=4)

    expected = successor_weights(log, most_played)
    assert_rounded(followers, expected)
    assert_rounded(together, companion_weights(log, most_played))
    left_in = log.where(np.isin(log.rows, most_played))
    closer = successor_weights(left_in, most_played)
    assert np.abs(closer - expected).max() > 0.01 * np.abs(expected).max()


def test_the_most_played_take_part_and_of_equals_those_of_lower_rows() -> None:
    log = events([0] * 9, [5, 5, 5, 3, 3, 1, 1, 7, 0])

    part = Participants.most_played(log, 9, most=4)

    assert part.rows.tolist() == [0, 1, 3, 5]
    assert part.places.tolist() == [0, 1, -1, 2, -1, 3, -1, -1, -1]


@pytest.mark.parametrize("most", [1, 3, 8, ALL])
def test_who_takes_part_has_a_place_in_row_order_and_weights_at_every_scale(most: int) -> None:
    log = random_log(1, plays_each=20)
    part = Participants.most_played(log, N_ITEMS, most)
    size = len(part.rows)
    assert size == min(most, UNPLAYED)

    for scales, found in (
        (len(SUCCESSOR_SCALES), followers_in(log, most=most)),
        (1, together_in(log, most=most)),
    ):
        assert found.rows.tolist() == part.rows.tolist()
        assert found.places.tolist() == part.places.tolist()
        assert found.weights.shape == (scales, size, size)
        assert found.units.shape == (scales, size)


def test_the_farthest_weight_of_each_item_takes_every_step_of_either_sign() -> None:
    listened, had = random_log(2, plays_each=40), two_tastes(users=3_000)

    for found in (
        followers_in(listened),
        together_in(had),
    ):
        assert (found.units > 0).all()
        farthest = np.abs(found.weights.astype(np.int32)).max(axis=2)
        assert (farthest == GREATEST_STEP).all()
        assert (found.weights < 0).any()
        assert (found.weights > 0).any()


def test_no_item_weighs_for_itself_however_often_it_is_repeated() -> None:
    log = events([0] * 40 + [1] * 40, [0, 0, 0, 1] * 20)

    for found in (followers_in(log, 2), together_in(log, 2)):
        for weights in found.weights.tolist():
            assert (weights[0][0], weights[1][1]) == (0, 0)
            assert abs(weights[0][1]) == abs(weights[1][0]) == GREATEST_STEP


def test_each_repeat_is_a_play_to_successors_and_none_to_companions() -> None:
    once = events([0, 0, 1, 1], [0, 1, 0, 2])
    again = events([0, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 2])

    had_once, had_again = (together_in(log, 3) for log in (once, again))
    assert had_once.weights.tobytes() == had_again.weights.tobytes()
    assert had_once.units.tobytes() == had_again.units.tobytes()
    found = followers_in(again, 3)
    only_once = dense(followers_in(once, 3))
    assert (dense(found)[:, 0, 1] > 1.9 * only_once[:, 0, 1]).all()
    assert (only_once[:, 0, 1] > 0).all()
    assert_rounded(found, successor_weights(again, [0, 1, 2]))


def test_two_plays_of_one_item_are_each_the_others() -> None:
    log = events([0] * 30, [0, 0, 1] * 10)

    found = followers_in(log, 2)

    assert_rounded(found, successor_weights(log, [0, 1]))


def test_one_users_last_play_says_nothing_of_the_next_users_first() -> None:
    log = events([0, 0, 1, 1], [0, 1, 2, 3])

    followers = followers_in(log, 4)
    together = together_in(log, 4)

    for weights in followers.weights:
        assert np.argwhere(weights).tolist() == [[0, 1], [2, 3]]
    assert np.argwhere(together.weights[0]).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


def test_who_has_nothing_to_say_has_a_unit_of_0() -> None:
    found = followers_in(events([0, 0], [0, 1]), 2)

    assert (found.units[:, 0] > 0).all()
    assert found.units[:, 1].tolist() == [0] * len(SUCCESSOR_SCALES)
    assert not found.weights[:, 1].any()


def test_a_log_without_order_has_companions_and_no_successors() -> None:
    log = random_log(3, plays_each=10)

    followers = followers_in(log, order="none")

    assert followers.places.tolist() == [-1] * N_ITEMS
    assert followers.rows.size == followers.weights.size == 0
    assert len(together_in(log).rows) == UNPLAYED


def test_without_plays_nothing_takes_part() -> None:
    nothing = events([], [])

    for scales, found in (
        (len(SUCCESSOR_SCALES), followers_in(nothing, 3)),
        (1, together_in(nothing, 3)),
    ):
        assert found.places.tolist() == [-1] * 3
        assert found.weights.shape == (scales, 0, 0)
        assert found.units.shape == (scales, 0)
        held = (found.places, found.scales, found.rows, found.weights, found.units)
        types = [one.dtype.name for one in held]
        assert types == ["int32", "float32", "uint32", "int16", "float32"]


def test_equal_logs_give_equal_bits() -> None:
    first, again = (random_log(4, plays_each=60) for _ in range(2))

    for one, other in (
        (
            followers_in(first),
            followers_in(again),
        ),
        (together_in(first), together_in(again)),
    ):
        assert one.weights.tobytes() == other.weights.tobytes()
        assert one.units.tobytes() == other.units.tobytes()
