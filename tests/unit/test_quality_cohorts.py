"""Cohorts of users and of items, by hand."""

import numpy as np
import pytest

from pipeline.evaluate import MERGED, RANKED
from pipeline.quality.cohorts import item_cohorts, user_cohorts
from tests.unit.observations import observation


def test_users_are_parted_by_their_history_and_the_median_of_the_known() -> None:
    many = [observation([1], [1], plays=plays) for plays in (0, 4, 5, 6, 10, 20)]

    new, light, heavy = user_cohorts(many, min_history=5, seed=1)

    assert [each.users for each in (new, light, heavy)] == [2, 2, 2]
    assert light.definition == "5 to below 8 plays"
    assert heavy.definition == "8 plays and more"


def test_a_cohort_is_measured_on_its_own_users() -> None:
    hit, miss = observation([1], [1], merged=[2], plays=1), observation([1], [2], plays=9)

    new, light, heavy = user_cohorts([hit, miss], min_history=5, seed=1)

    assert new.methods[RANKED]["hit_10"].mean == 1.0
    assert new.methods[MERGED]["hit_10"].mean == 0.0
    assert heavy.methods[RANKED]["hit_10"].mean == 0.0
    assert (light.users, light.methods) == (0, {})


def test_items_are_parted_by_popularity_and_unknown_ones_are_of_the_tail() -> None:
    share_rank = np.linspace(0, 1, 11, dtype=np.float32)  # rows 0 and 1 are below a fifth
    both, tail_only = observation([0, 5], [0, 9]), observation([30], [30])

    head, tail = item_cohorts([both, tail_only], share_rank, seed=1)

    assert (head.users, tail.users) == (1, 2)
    assert head.methods[RANKED]["ndcg_10"].mean == pytest.approx(1.0)
    assert tail.methods[RANKED]["recall_100"].mean == 0.5
