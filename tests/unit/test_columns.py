"""Distinct tuples of parallel columns, against a slow oracle."""

from collections import Counter

import numpy as np
import pytest

from pipeline.columns import distinct, place_in_group, sort_columns, stack

WIDE = 1 << 40  # two such columns no longer fit into one integer


@pytest.mark.parametrize("spread", [1, WIDE])
def test_distinct_counts_each_tuple_in_order(spread: int) -> None:
    rng = np.random.default_rng(4)
    table = rng.integers(-3, 4, (3, 500)) * spread

    found, counts = distinct(table)

    expected = Counter(zip(*table.tolist(), strict=True))
    assert list(zip(*found.tolist(), strict=True)) == sorted(expected)
    assert counts.tolist() == [expected[each] for each in sorted(expected)]


@pytest.mark.parametrize("spread", [1, WIDE])
def test_tuples_are_sorted_by_the_first_column_first(spread: int) -> None:
    rng = np.random.default_rng(5)
    table = rng.integers(0, 9, (3, 300)) * spread

    ordered = sort_columns(table)

    rows = list(zip(*table.tolist(), strict=True))
    assert list(zip(*ordered.tolist(), strict=True)) == sorted(rows)


def test_no_tuples_are_no_tuples() -> None:
    found, counts = distinct(stack(np.zeros(0, np.uint32), np.zeros(0, np.uint16)))

    assert found.shape == (2, 0)
    assert len(counts) == 0


def test_places_begin_anew_with_every_group() -> None:
    table = stack(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 6, 6, 6]))

    assert place_in_group(table).tolist() == [0, 1, 0, 0, 1]
