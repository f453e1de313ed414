"""What came after a bundle, and logs that do not go on where it ends."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluate import EvaluationError
from pipeline.event_log import EventLog
from pipeline.quality.cases import Case, cases_after, sample
from pipeline.tables import Tables, build_tables
from tests.small_bundle import AS_OF_S, SEED, USERS, small_log, small_tables
from tests.unit.event_logs import Play, event_log

CUT_S = AS_OF_S - 3 * 86_400


@pytest.fixture(scope="module")
def held_out() -> Tables:
    log = small_log()
    return build_tables(log.events.where(log.events.times_s < CUT_S), log, as_of_s=CUT_S, seed=SEED)


@pytest.fixture(scope="module")
def without_last_plays() -> tuple[Tables, EventLog]:
    """Tables of a log of positions, without each user's last play."""
    log = replace(small_log(), order="position")
    is_last = np.append(np.diff(log.events.users) > 0, True)
    return build_tables(log.events.where(~is_last), log, as_of_s=0, seed=SEED), log


def test_new_items_after_the_tables_are_the_targets_of_a_timed_log(held_out: Tables) -> None:
    log = small_log()

    cases = cases_after(held_out, log)

    assert 10 < len(cases) <= USERS
    for case in cases:
        place = int(np.searchsorted(log.user_keys, np.uint64(case.user_key)))
        own = log.events.users == place
        before = set(log.events.rows[own & (log.events.times_s < CUT_S)].tolist())
        after = set(log.events.rows[own & (log.events.times_s >= CUT_S)].tolist())
        assert set(case.targets.tolist()) == after - before


def test_what_stands_behind_the_history_is_the_target_of_a_log_of_positions(
    without_last_plays: tuple[Tables, EventLog],
) -> None:
    tables, log = without_last_plays

    cases = {case.user_key: case.targets.tolist() for case in cases_after(tables, log)}

    for user, key in enumerate(log.user_keys.tolist()):
        *before, last = log.events.rows[log.events.users == user].tolist()
        assert cases.get(key, []) == ([last] if last not in before else [])


def test_without_an_order_what_the_history_lacks_is_the_target(
    without_last_plays: tuple[Tables, EventLog],
) -> None:
    tables, log = without_last_plays
    facts = replace(tables.facts, order="none")

    found = cases_after(replace(tables, facts=facts), replace(log, order="none"))

    expected = cases_after(tables, log)
    assert [case.user_key for case in found] == [case.user_key for case in expected]
    assert [case.targets.tolist() for case in found] == [c.targets.tolist() for c in expected]


def test_items_that_the_bundle_does_not_know_are_targets_beyond_its_rows(tmp_path: Path) -> None:
    known = event_log(tmp_path, [Play("u", "a", 10), Play("u", "b", 20), Play("v", "a", 30)])
    tables = build_tables(known.events, known, as_of_s=31, seed=1)
    longer = event_log(
        tmp_path,
        [Play("u", "a", 10), Play("u", "new", 40), Play("v", "b", 41), Play("v", "newer", 42)],
    )

    targets = sorted(tuple(case.targets.tolist()) for case in cases_after(tables, longer))

    (b,) = tables.keys.rows_of_ids(["b"]).tolist()
    assert [target for each in targets for target in each if target < 2] == [b]
    assert len({target for each in targets for target in each if target >= 2}) == 2


def test_a_bundle_of_the_whole_log_is_refused_and_told_of_the_holdout() -> None:
    with pytest.raises(EvaluationError, match="published without a holdout"):
        cases_after(small_tables(), small_log())
    log = replace(small_log(), order="position")
    facts = replace(small_tables().facts, order="position")
    with pytest.raises(EvaluationError, match="holds nothing beyond"):
        cases_after(replace(small_tables(), facts=facts), log)


def test_a_log_of_another_order_is_refused(held_out: Tables) -> None:
    with pytest.raises(EvaluationError, match="order is 'none' and the bundle's 'time'"):
        cases_after(held_out, replace(small_log(), order="none"))


def test_a_log_of_other_users_or_items_is_refused(held_out: Tables, tmp_path: Path) -> None:
    strangers = event_log(tmp_path, [Play("nobody", "jazz-00", AS_OF_S)])
    with pytest.raises(EvaluationError, match="none of the 1 users"):
        cases_after(held_out, strangers)
    unheard = event_log(tmp_path, [Play("user-00", "unheard", AS_OF_S)])
    with pytest.raises(EvaluationError, match="none of the 1 items"):
        cases_after(held_out, unheard)


def test_a_history_that_is_not_the_beginning_of_the_log_is_refused(
    without_last_plays: tuple[Tables, EventLog],
) -> None:
    tables, log = without_last_plays
    turned = replace(log, events=replace(log.events, rows=log.events.rows[::-1]))

    with pytest.raises(EvaluationError, match="not the beginning"):
        cases_after(tables, turned)


def test_only_what_is_new_makes_a_case(tmp_path: Path) -> None:
    log = event_log(tmp_path, [Play("u", "a", 10), Play("u", "a", 40)])
    tables = build_tables(log.events.where(log.events.times_s < 20), log, as_of_s=20, seed=1)

    with pytest.raises(EvaluationError, match="nobody played anything new"):
        cases_after(tables, log)


def test_a_sample_is_the_same_every_time_and_in_order() -> None:
    cases = [Case(key, np.array([1], dtype=np.uint32)) for key in range(50)]

    drawn = sample(cases, 10, seed=3)

    assert [case.user_key for case in drawn] == sorted(case.user_key for case in drawn)
    assert drawn == sample(cases, 10, seed=3) != sample(cases, 10, seed=4)
    assert sample(cases, 50, seed=3) == tuple(cases)
