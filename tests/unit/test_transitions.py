"""Neighbour lists, against a slow oracle."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.event_log import Events
from pipeline.transitions import (
    BACKWARD,
    MAX_DISTANCE,
    POPULARITY_EXPONENT,
    UNORDERED_PLAYS,
    neighbour_lists,
)
from signals.bundle import Neighbours
from tests.unit.event_logs import events

Weights = dict[tuple[int, int], float]


def sequences(log: Events) -> list[list[int]]:
    of_user: dict[int, list[int]] = defaultdict(list)
    for user, row in zip(log.users.tolist(), log.rows.tolist(), strict=True):
        of_user[user].append(row)
    return list(of_user.values())


def following(played: Sequence[Sequence[int]]) -> Weights:
    weights: Weights = defaultdict(float)
    for plays in played:
        for place, row in enumerate(plays):
            for step, later in enumerate(plays[place + 1 : place + 1 + MAX_DISTANCE], start=1):
                weights[row, later] += 1 / step
                weights[later, row] += BACKWARD / step
    return weights


def together(played: Sequence[Sequence[int]]) -> Weights:
    weights: Weights = defaultdict(float)
    for plays in played:
        had = set(plays[:UNORDERED_PLAYS])
        for row in had:
            for other in had:
                weights[row, other] += 1
    return weights


def lists_of(weights: Weights, log: Events, length: int) -> dict[int, dict[int, float]]:
    plays = Counter(log.rows.tolist())
    scores: dict[int, dict[int, float]] = defaultdict(dict)
    for (row, other), weight in weights.items():
        if row != other:
            scores[row][other] = weight / plays[other] ** POPULARITY_EXPONENT
    return {
        row: {
            other: score / sum(own.values())
            for other, score in sorted(own.items(), key=lambda entry: (-entry[1], entry[0]))[
                :length
            ]
        }
        for row, own in scores.items()
    }


def as_dict(lists: Neighbours, row: int) -> dict[int, float]:
    filled = lists.scores[row] > 0
    columns = lists.rows[row][filled].tolist(), lists.scores[row][filled].tolist()
    return dict(zip(*columns, strict=True))


def random_events(n: int = 800, n_users: int = 20, n_items: int = 50) -> Events:
    rng = np.random.default_rng(7)
    users = np.sort(rng.integers(0, n_users, n))
    return events(users.tolist(), (rng.integers(0, n_items, n) ** 2 // n_items).tolist())


@pytest.mark.parametrize(("order", "length"), [("time", 50), ("position", 7), ("none", 50)])
def test_lists_are_what_a_slow_count_gives(order: str, length: int) -> None:
    log = random_events()
    count = together if order == "none" else following
    expected = lists_of(count(sequences(log)), log, 50)

    found = neighbour_lists(log, 50, order=order, length=length)

    assert found.rows.shape == found.scores.shape == (50, length)
    for row in range(50):
        own = as_dict(found, row)
        longest = expected.get(row, {})
        assert len(own) == min(length, len(longest))
        assert own == pytest.approx({other: longest[other] for other in own}, rel=1e-5)
        least_kept = min(own.values(), default=0.0)
        left_out = [score for other, score in longest.items() if other not in own]
        assert all(score <= least_kept * (1 + 1e-5) for score in left_out)


def test_a_hand_counted_pair() -> None:
    found = neighbour_lists(events([0, 0, 0], [0, 1, 2]), 3, order="time", length=2)

    forward, two_on = 1.0, 0.5
    assert as_dict(found, 0) == pytest.approx({1: forward / 1.5, 2: two_on / 1.5})
    assert as_dict(found, 1) == pytest.approx({2: 1 / 1.3, 0: 0.3 / 1.3})


def test_a_list_does_not_hold_its_own_item() -> None:
    found = neighbour_lists(events([0] * 4, [0, 0, 1, 0]), 2, order="time", length=5)

    assert as_dict(found, 0).keys() == {1}
    assert as_dict(found, 1).keys() == {0}


def test_users_do_not_run_into_each_other() -> None:
    found = neighbour_lists(events([0, 0, 1, 1], [0, 1, 2, 3]), 4, order="time", length=5)

    assert as_dict(found, 1).keys() == {0}
    assert as_dict(found, 2).keys() == {3}


def test_plays_too_far_apart_are_no_pair() -> None:
    plays = [0, *[1] * (MAX_DISTANCE - 1), 2, 3]

    found = neighbour_lists(events([0] * len(plays), plays), 4, order="time", length=5)

    assert as_dict(found, 0).keys() == {1, 2}


def test_ties_go_to_the_lower_row() -> None:
    users = [user for user in range(6) for _ in range(2)]
    rows = [row for other in (5, 3, 1, 4, 2, 6) for row in (0, other)]

    found = neighbour_lists(events(users, rows), 7, order="none", length=4)

    assert found.rows[0].tolist() == [1, 2, 3, 4]
    assert found.scores[0] == pytest.approx([1 / 6] * 4)


def test_lists_are_best_first_and_padded_with_zeros() -> None:
    found = neighbour_lists(random_events(n=60), 60, order="time", length=30)

    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert not found.rows[found.scores == 0].any()
    assert np.isfinite(found.scores).all()


def test_a_hit_weighs_less_than_its_plays() -> None:
    users = [0, 0, 0, 1, 2, 3]
    rows = [0, 1, 2, 1, 1, 1]

    found = neighbour_lists(events(users, rows), 3, order="none", length=2)

    own = as_dict(found, 0)
    assert own[1] / own[2] == pytest.approx(4**-POPULARITY_EXPONENT)


def test_without_order_only_so_many_plays_of_a_user_count() -> None:
    rows = list(range(UNORDERED_PLAYS + 1))

    found = neighbour_lists(events([0] * len(rows), rows), len(rows), order="none", length=300)

    assert len(as_dict(found, 0)) == UNORDERED_PLAYS - 1
    assert as_dict(found, UNORDERED_PLAYS) == {}


@pytest.mark.parametrize("order", ["time", "none"])
def test_a_log_without_plays_has_empty_lists(order: str) -> None:
    found = neighbour_lists(events([], []), 3, order=order, length=4)

    assert not found.scores.any()
    assert math.prod(found.rows.shape) == 12
