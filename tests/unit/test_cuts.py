"""Cuts: nothing that comes after one is known before it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.cuts import (
    MIN_TIME_CUTS,
    WINDOW_S,
    Cut,
    Cuts,
    cut_log,
)
from pipeline.event_log import EventLog, Events, LogError
from pipeline.log_directory import Order
from pipeline.recipe import DEFAULT
from tests.unit.event_logs import Play, event_log, item_ids, place_of_user

DAY_S = 86_400
START_S = 1_600_000_000


def many_plays(days: int = 180, n: int = 900) -> list[Play]:
    rng = np.random.default_rng(11)
    times = np.sort(rng.integers(START_S, START_S + days * DAY_S, n))
    return [
        Play(f"user-{rng.integers(12)}", f"item-{rng.integers(40)}", int(at_s)) for at_s in times
    ]


def plays_around_every_cut() -> list[Play]:
    """One play a second before, one at and one a second after each weekly cut of the log."""
    end_s = START_S + 20 * WINDOW_S
    moments = [end_s - WINDOW_S * back for back in range(20, 0, -1)]
    times = [moment + offset for moment in moments for offset in (-1, 0, 1)]
    return [Play("u", f"item-{n}", at_s) for n, at_s in enumerate([*times, end_s - 1])]


def make_log(folder: Path, order: Order, plays: list[Play] | None = None) -> EventLog:
    return event_log(folder, plays if plays is not None else many_plays(), order=order)


def all_cuts(cuts: Cuts) -> list[Cut]:
    return [cuts.test, *cuts.training]


def tuples(events: Events) -> list[tuple[int, ...]]:
    return list(
        zip(events.users.tolist(), events.rows.tolist(), events.times_s.tolist(), strict=True)
    )


def test_no_event_after_a_cut_is_known_before_it(tmp_path: Path) -> None:
    cuts = cut_log(make_log(tmp_path, "time"), seed=1)

    assert len(cuts.training) == DEFAULT.time_cuts
    for cut in all_cuts(cuts):
        assert len(cut.before)
        assert len(cut.after)
        assert cut.before.times_s.max() < cut.as_of_s <= cut.after.times_s.min()
        assert cut.after.times_s.max() < cut.as_of_s + WINDOW_S


def test_a_play_at_the_very_moment_of_a_cut_comes_after_it(tmp_path: Path) -> None:
    log = make_log(tmp_path, "time", plays_around_every_cut())

    cuts = cut_log(log, seed=1)

    for cut in all_cuts(cuts):
        assert cut.before.times_s.max() == cut.as_of_s - 1
        assert cut.after.times_s.min() == cut.as_of_s
        assert cut.after.times_s.max() == cut.as_of_s + WINDOW_S - 1


def test_windows_do_not_overlap_and_the_newest_training_one_ends_at_the_test_cut(
    tmp_path: Path,
) -> None:
    log = make_log(tmp_path, "time")

    cuts = cut_log(log, seed=1)

    moments = [cut.as_of_s for cut in all_cuts(cuts)]
    end_s = int(log.events.times_s.max()) + 1
    assert moments == [end_s - WINDOW_S * back for back in range(1, DEFAULT.time_cuts + 2)]
    windows = [set(tuples(cut.after)) for cut in all_cuts(cuts)]
    assert not any(a & b for place, a in enumerate(windows) for b in windows[:place])


def test_a_log_of_some_months_has_the_weekly_cuts_that_fit(tmp_path: Path) -> None:
    cuts = cut_log(make_log(tmp_path, "time", many_plays(days=85)), seed=1)

    assert len(cuts.training) == 12 - 1 - 3
    assert cuts.test.as_of_s - cuts.training[0].as_of_s == WINDOW_S


def test_windows_shrink_where_the_log_is_short(tmp_path: Path) -> None:
    cuts = cut_log(make_log(tmp_path, "time", many_plays(days=22)), seed=1)

    window_s = cuts.test.as_of_s - cuts.training[0].as_of_s
    assert len(cuts.training) == MIN_TIME_CUTS
    assert window_s == pytest.approx(22 / 8 * DAY_S, rel=0.05)
    assert all(len(cut.before) and len(cut.after) for cut in all_cuts(cuts))


@pytest.mark.parametrize("order", ["time", "position", "none"])
def test_the_whole_is_every_event_and_nothing_after(tmp_path: Path, order: Order) -> None:
    log = make_log(tmp_path, order)

    whole = cut_log(log, seed=1).whole

    assert tuples(whole.before) == tuples(log.events)
    assert len(whole.after) == 0
    if order == "time":
        assert whole.as_of_s > log.events.times_s.max()


def test_positions_hold_back_the_last_plays_one_at_a_time(tmp_path: Path) -> None:
    plays = [Play("u", f"item-{n}") for n in range(6)] + [Play("v", f"item-{n}") for n in range(2)]
    log = make_log(tmp_path, "position", plays)

    cuts = cut_log(log, seed=1)

    def named(events: Events, user: str) -> list[str]:
        rows = events.rows[events.users == place_of_user(log, user)]
        return [item_ids(log)[row] for row in rows]

    assert [named(cut.after, "u") for cut in all_cuts(cuts)] == [
        ["item-5"],
        ["item-4"],
        ["item-3"],
        ["item-2"],
    ]
    assert [named(cut.before, "u") for cut in all_cuts(cuts)] == [
        [f"item-{n}" for n in range(end)] for end in (5, 4, 3, 2)
    ]
    assert [named(cut.after, "v") for cut in all_cuts(cuts)] == [["item-1"], ["item-0"], [], []]
    assert [named(cut.before, "v") for cut in all_cuts(cuts)] == [["item-0"], [], [], []]


def test_a_log_without_order_holds_back_one_play_a_user_by_the_seed(tmp_path: Path) -> None:
    log = make_log(tmp_path, "none")

    cuts, same, other = cut_log(log, seed=1), cut_log(log, seed=1), cut_log(log, seed=2)

    assert len(cuts.training) == DEFAULT.cuts
    for cut in all_cuts(cuts):
        assert len(np.unique(cut.after.users)) == len(cut.after) == len(log.user_keys)
    assert len(cuts.test.before) + len(cuts.test.after) == len(log.events)
    assert tuples(cuts.test.after) == tuples(same.test.after)
    assert tuples(cuts.test.after) != tuples(other.test.after)


@pytest.mark.parametrize("order", ["position", "none"])
def test_what_one_cut_holds_back_no_older_one_knows(tmp_path: Path, order: Order) -> None:
    cuts = cut_log(make_log(tmp_path, order), seed=1)

    for newer, older in zip(all_cuts(cuts), cuts.training, strict=False):
        assert len(older.before) + len(older.after) == len(newer.before)
        assert sorted(tuples(older.before) + tuples(older.after)) == sorted(tuples(newer.before))


def test_what_happens_after_the_test_cut_changes_nothing_before_it(tmp_path: Path) -> None:
    plays = many_plays()
    kept = cut_log(make_log(tmp_path, "time", plays), seed=1)
    cut_s = kept.test.as_of_s
    rng = np.random.default_rng(3)
    after = [play for play in plays if (play.at_s or 0) >= cut_s]
    items = rng.permutation([play.item for play in after]).tolist()
    shuffled = [Play(play.user, item, play.at_s) for play, item in zip(after, items, strict=True)]

    other = cut_log(make_log(tmp_path, "time", plays[: -len(after)] + shuffled), seed=1)

    assert tuples(other.test.after) != tuples(kept.test.after)
    assert tuples(other.test.before) == tuples(kept.test.before)
    for one, two in zip(kept.training, other.training, strict=True):
        assert tuples(one.before) == tuples(two.before)
        assert tuples(one.after) == tuples(two.after)


@pytest.mark.parametrize("order", ["time", "position", "none"])
@pytest.mark.parametrize("plays", [[], [Play("u", "a", START_S)]])
def test_a_log_that_is_too_short_is_refused_with_its_size(
    tmp_path: Path, order: Order, plays: list[Play]
) -> None:
    log = make_log(tmp_path, order, plays)

    with pytest.raises(LogError, match=f"the log has {len(plays)} events of {len(plays)} users"):
        cut_log(log, seed=1)
