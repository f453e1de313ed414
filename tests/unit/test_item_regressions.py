"""Successors and companions, against the definitions in plain numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.event_log import Events
from pipeline.item_regressions import (
    COMPANION_RIDGE,
    SUCCESSOR_RIDGE,
    SUCCESSOR_SCALE,
    SUCCESSOR_WINDOW,
    Participants,
    companions,
    successors,
)
from signals.bundle import NO_LIST, PartialLinks
from tests.unit.event_logs import events

Weights = NDArray[np.float64]
N_ITEMS = 9
UNPLAYED = 8


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


def sequences(log: Events) -> list[list[int]]:
    return [log.rows[log.users == user].tolist() for user in np.unique(log.users)]


def successor_weights(log: Events, taking_part: Sequence[int]) -> Weights:
    """Return the regression's weights between the items of `taking_part`, by its definition."""
    size = len(taking_part)
    before, after = np.zeros((size, size)), np.zeros((size, size))
    for plays in sequences(log):
        place = np.arange(len(plays))
        is_of = (np.array(plays)[:, None] == np.array(taking_part)).astype(np.float64)
        ago = place[:, None] - place
        fades = np.where(ago > 0, np.exp(-(ago - 1) / SUCCESSOR_SCALE), 0)  # [t, a]
        pairs = np.where(np.abs(ago) <= SUCCESSOR_WINDOW, fades.T @ fades, 0)
        before += is_of.T @ pairs @ is_of
        after += is_of.T @ np.where(ago <= SUCCESSOR_WINDOW, fades, 0).T @ is_of
    return np.asarray(np.linalg.solve(before + SUCCESSOR_RIDGE * np.eye(size), after), np.float64)


def companion_weights(log: Events, taking_part: Sequence[int]) -> Weights:
    """Return EASE's weights between the items of `taking_part`, by its definition."""
    has = np.array([[row in plays for row in taking_part] for plays in sequences(log)])
    gram = has.T.astype(np.float64) @ has + COMPANION_RIDGE * np.eye(len(taking_part))
    inverse = np.linalg.inv(gram)
    weights = np.array(
        [[-inverse[i, j] / inverse[j, j] for j in range(len(gram))] for i in range(len(gram))]
    )
    np.fill_diagonal(weights, 0)
    return weights


def dense(links: PartialLinks, taking_part: Sequence[int]) -> Weights:
    """Return the weights that `links` lists, 0 where it lists none."""
    weights = np.zeros((len(taking_part), len(taking_part)))
    for place, row in enumerate(taking_part):
        number = int(links.lists[row])
        for other, score in zip(
            links.rows[number].tolist(), links.scores[number].tolist(), strict=True
        ):
            if score:
                weights[place, taking_part.index(other)] = score
    return weights


def without_own(weights: Weights) -> Weights:
    return weights * (1 - np.eye(len(weights)))


def assert_near(found: Weights, expected: Weights) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("plays_each", [2, 40, 150], ids=["short", "long", "beyond the window"])
def test_successors_solve_the_regression_of_the_next_play(seed: int, plays_each: int) -> None:
    log = random_log(seed, plays_each=plays_each)
    everything = list(range(UNPLAYED))

    found = successors(log, N_ITEMS, order="time")

    assert_near(dense(found, everything), without_own(successor_weights(log, everything)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("users", [40, 4_000])
def test_companions_are_those_of_the_closed_form(seed: int, users: int) -> None:
    log = random_log(seed, plays_each=6, users=users)
    everything = list(range(UNPLAYED))

    found = companions(log, N_ITEMS)

    assert_near(dense(found, everything), companion_weights(log, everything))


def test_what_is_left_out_still_counts_as_time() -> None:
    log = random_log(7, plays_each=50)
    plays = np.bincount(log.rows, minlength=N_ITEMS)
    most_played = sorted(np.argsort(-plays, kind="stable")[:4].tolist())

    followers = successors(log, N_ITEMS, order="position", most=4)
    together = companions(log, N_ITEMS, most=4)

    expected = without_own(successor_weights(log, most_played))
    assert_near(dense(followers, most_played), expected)
    assert_near(dense(together, most_played), companion_weights(log, most_played))
    left_in = log.where(np.isin(log.rows, most_played))
    closer = without_own(successor_weights(left_in, most_played))
    assert np.abs(closer - expected).max() > 0.01 * np.abs(expected).max()


def test_the_most_played_take_part_and_of_equals_those_of_lower_rows() -> None:
    log = events([0] * 9, [5, 5, 5, 3, 3, 1, 1, 7, 0])

    part = Participants.most_played(log, 9, most=4)

    assert part.rows.tolist() == [0, 1, 3, 5]
    assert part.places.tolist() == [0, 1, -1, 2, -1, 3, -1, -1, -1]


@pytest.mark.parametrize("most", [1, 3, 8, 100])
def test_only_what_takes_part_has_a_list_and_is_listed(most: int) -> None:
    log = random_log(1, plays_each=20)
    taking_part = Participants.most_played(log, N_ITEMS, most).rows.tolist()
    assert len(taking_part) == min(most, UNPLAYED)

    for links in (
        successors(log, N_ITEMS, order="time", most=most),
        companions(log, N_ITEMS, most=most),
    ):
        assert links.n_items == N_ITEMS
        assert np.flatnonzero(links.lists != NO_LIST).tolist() == taking_part
        assert links.lists[taking_part].tolist() == list(range(len(taking_part)))
        assert set(links.rows[links.scores != 0].tolist()) <= set(taking_part)


@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_a_list_keeps_the_weights_farthest_from_0_of_either_sign(length: int) -> None:
    listened = random_log(2, plays_each=40)
    had = two_tastes(users=3_000)

    for whole, cut in (
        (
            successors(listened, N_ITEMS, order="time"),
            successors(listened, N_ITEMS, order="time", length=length),
        ),
        (companions(had, N_ITEMS), companions(had, N_ITEMS, length=length)),
    ):
        n_lists = len(whole.rows)
        kept = min(length, n_lists - 1)
        assert (whole.scores < 0).any()
        assert cut.rows.shape == cut.scores.shape == (n_lists, length)
        assert (np.diff(np.abs(cut.scores), axis=1) <= 0).all()
        assert cut.scores[:, :kept].tobytes() == whole.scores[:, :kept].tobytes()
        assert cut.rows[:, :kept].tolist() == whole.rows[:, :kept].tolist()
        assert not cut.scores[:, kept:].any()
        assert not cut.rows[:, kept:].any()


def test_no_item_lists_itself_however_often_it_is_repeated() -> None:
    log = events([0] * 40 + [1] * 40, [0, 0, 0, 1] * 20)

    for links in (successors(log, 2, order="time"), companions(log, 2)):
        assert links.rows[:, 0].tolist() == [1, 0]
        assert (links.scores[:, 0] != 0).all()
        assert not links.scores[:, 1:].any()


def test_each_repeat_is_a_play_to_successors_and_none_to_companions() -> None:
    once = events([0, 0, 1, 1], [0, 1, 0, 2])
    again = events([0, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 2])

    assert (
        dense(companions(again, 3), [0, 1, 2]).tolist()
        == dense(companions(once, 3), [0, 1, 2]).tolist()
    )
    more = dense(successors(again, 3, order="time"), [0, 1, 2])
    assert more[0, 1] > 1.9 * dense(successors(once, 3, order="time"), [0, 1, 2])[0, 1] > 0
    assert_near(more, without_own(successor_weights(again, [0, 1, 2])))


def test_one_users_last_play_says_nothing_of_the_next_users_first() -> None:
    log = events([0, 0, 1, 1], [0, 1, 2, 3])

    followers = dense(successors(log, 4, order="time"), [0, 1, 2, 3])
    together = dense(companions(log, 4), [0, 1, 2, 3])

    assert np.argwhere(followers).tolist() == [[0, 1], [2, 3]]
    assert np.argwhere(together).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


def test_a_log_without_order_has_companions_and_no_successors() -> None:
    log = random_log(3, plays_each=10)

    followers = successors(log, N_ITEMS, order="none")

    assert followers.lists.tolist() == [NO_LIST] * N_ITEMS
    assert followers.rows.shape[0] == followers.scores.shape[0] == 0
    assert (companions(log, N_ITEMS).lists != NO_LIST).sum() == UNPLAYED


def test_a_log_without_plays_has_no_lists() -> None:
    nothing = events([], [])

    for links in (successors(nothing, 3, order="time"), companions(nothing, 3)):
        assert links.lists.tolist() == [NO_LIST] * 3
        assert links.rows.size == links.scores.size == 0
        held = (links.lists, links.rows, links.scores)
        assert [one.dtype.name for one in held] == ["uint32", "uint32", "float32"]


def test_equal_logs_give_equal_bits() -> None:
    first, again = (random_log(4, plays_each=60) for _ in range(2))

    for one, other in (
        (successors(first, N_ITEMS, order="time"), successors(again, N_ITEMS, order="time")),
        (companions(first, N_ITEMS), companions(again, N_ITEMS)),
    ):
        assert one.scores.tobytes() == other.scores.tobytes()
        assert one.rows.tobytes() == other.rows.tobytes()
