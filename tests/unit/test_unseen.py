"""Unseen: what a user had, played or excluded is not proposed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.candidates.domain.unseen import is_unseen
from services.candidates.domain.values import Query
from signals.bloom import build_filter, contains

KEYS = np.sort(np.random.default_rng(5).integers(0, 2**64, 40, dtype=np.uint64))
ROWS = st.lists(st.integers(0, len(KEYS) - 1), max_size=20)


def rows_of(values: list[int]) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32)


@settings(deadline=None)  # the first example compiles
@given(rows=ROWS, had=ROWS, played=ROWS, excluded=ROWS)
def test_exactly_what_was_neither_had_nor_played_nor_excluded_is_unseen(
    rows: list[int], had: list[int], played: list[int], excluded: list[int]
) -> None:
    seen_filter = build_filter(KEYS[rows_of(had)])
    query = Query(10, rows_of(played), seen_filter, rows_of(excluded), market="")

    unseen = is_unseen(query, rows_of(rows), KEYS)

    held_back = contains(seen_filter, KEYS)  # includes the filter's few false positives
    gone = {*played, *excluded}
    assert unseen.tolist() == [row not in gone and not held_back[row] for row in rows]
    assert not (set(rows_of(rows)[unseen].tolist()) & {*had, *played, *excluded})
