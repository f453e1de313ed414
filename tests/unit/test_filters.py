"""Filters remove what must not be answered, and say which of them did."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.filters import ItemRules, allowed_rows, filter_candidates
from services.gateway.domain.values import History, Subject
from signals.bloom import build_filter
from tests.unit.gateway_world import CASES, NO_ROWS, item_rules, ranked_of, rows_of, subject_of

N_ITEMS = 30
RULES = item_rules(N_ITEMS, only_in={3: "DE", 4: "DE", 5: "FR"})


def removed_by_filter(rows: Sequence[int], subject: Subject) -> dict[str, list[int]]:
    _, removed = filter_candidates(ranked_of(rows), subject, RULES)
    return {each.filter_name: each.rows.tolist() for each in removed}


def remaining(rows: Sequence[int], subject: Subject, rules: ItemRules = RULES) -> list[int]:
    allowed, _ = filter_candidates(ranked_of(rows), subject, rules)
    return [int(row) for row in allowed.rows]


def test_played_items_are_removed_as_seen() -> None:
    subject = subject_of(RULES, played=[2, 9])

    assert remaining([9, 1, 2, 0], subject) == [1, 0]
    assert removed_by_filter([9, 1, 2, 0], subject) == {
        "seen": [9, 2],
        "excluded": [],
        "rights": [],
    }


def test_items_of_the_seen_filter_are_removed_though_no_play_shows_them() -> None:
    long_ago = build_filter(RULES.keys.keys[rows_of([7])])
    history = History(NO_ROWS, np.zeros(0, dtype=np.float32), long_ago)

    assert remaining([7, 8], Subject(history, NO_ROWS, "", 0)) == [8]


def test_plays_are_removed_though_the_seen_filter_lacks_them() -> None:
    history = History(rows_of([7]), np.zeros(1, dtype=np.float32), b"")

    assert remaining([7, 8], Subject(history, NO_ROWS, "", 0)) == [8]


def test_excluded_items_are_removed_as_excluded() -> None:
    subject = subject_of(RULES, excluded=[1, 6])

    assert remaining([6, 0, 1], subject) == [0]
    assert removed_by_filter([6, 0, 1], subject)["excluded"] == [6, 1]


@pytest.mark.parametrize(
    ("market", "shown"),
    [
        ("DE", [0, 3, 4]),
        ("FR", [0, 5]),
        ("JP", [0]),
        ("", [0, 3, 4, 5]),
    ],
)
def test_items_are_shown_where_their_rights_allow_and_everywhere_without_a_market(
    market: str, shown: list[int]
) -> None:
    assert remaining([0, 3, 4, 5], subject_of(RULES, market=market)) == shown


def test_an_item_is_named_by_the_first_filter_that_removes_it() -> None:
    subject = subject_of(RULES, played=[5], excluded=[5, 3], market="JP")

    assert removed_by_filter([5, 3, 4, 0], subject) == {
        "seen": [5],
        "excluded": [3],
        "rights": [4],
    }


SETS_OF_ROWS = st.sets(st.integers(0, N_ITEMS - 1))


@CASES
@given(
    st.permutations(range(N_ITEMS)),
    SETS_OF_ROWS,
    SETS_OF_ROWS,
    st.sampled_from(["", "DE", "FR", "JP"]),
)
def test_what_remains_and_what_was_removed_is_all_there_was(
    candidates: list[int], played: set[int], excluded: set[int], market: str
) -> None:
    subject = subject_of(RULES, played=sorted(played), excluded=sorted(excluded), market=market)
    merged = ranked_of(candidates)

    allowed, removed = filter_candidates(merged, subject, RULES)

    gone = [row for each in removed for row in each.rows.tolist()]
    assert sorted(allowed.rows.tolist() + gone) == sorted(candidates)
    assert allowed.rows.tolist() == [row for row in candidates if row not in gone]
    assert not set(allowed.rows.tolist()) & (played | excluded)
    assert np.isfinite(allowed.scores).all()


@CASES
@given(SETS_OF_ROWS, SETS_OF_ROWS, st.sampled_from(["", "DE", "JP"]))
def test_asking_for_rows_agrees_with_filtering_candidates(
    played: set[int], excluded: set[int], market: str
) -> None:
    subject = subject_of(RULES, played=sorted(played), excluded=sorted(excluded), market=market)
    every_row = list(range(N_ITEMS))

    mask = allowed_rows(rows_of(every_row), subject, RULES)

    assert np.flatnonzero(mask).tolist() == remaining(every_row, subject)


def test_no_candidates_pass_as_none() -> None:
    assert remaining([], subject_of(RULES, played=[1], market="DE")) == []
