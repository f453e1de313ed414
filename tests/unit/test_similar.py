"""Similar: what tends to follow the newest plays."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.candidates.domain.similar import (
    LOOKED_AT,
    RECENT_PLAYS,
    Scored,
    similar_candidates,
)
from services.candidates.domain.unseen import is_unseen
from services.candidates.domain.values import Candidates, Query
from signals.bloom import build_filter
from signals.bundle import ItemKeys, Neighbours
from signals.decay import recency_weights
from signals.item_to_item import neighbour_scores
from signals.tiers import Tier
from signals.top import best_first

RECENCY_SCALE = 10.0
ITEMS = ItemKeys(np.arange(8, dtype=np.uint64) * 1_000_003)
NEIGHBOURS = Neighbours(
    rows=np.array(
        [[1, 2], [0, 3], [4, 0], [5, 4], [6, 0], [6, 7], [0, 0], [0, 0]], dtype=np.uint32
    ),
    scores=np.array(
        [[0.6, 0.4], [0.5, 0.5], [0.9, 0], [0.3, 0.2], [1, 0], [0.5, 0.5], [0, 0], [0, 0]],
        dtype=np.float32,
    ),
)


def rows_of(values: list[int]) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32)


def scored_by(neighbours: Neighbours, recency_scale: float = RECENCY_SCALE) -> Scored:
    def scored(
        plays: NDArray[np.uint32], most: int | None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        weights = recency_weights(len(plays), recency_scale)
        return neighbour_scores(neighbours, plays, weights, most)

    return scored


def query(history: list[int], *, limit: int = 10, had: tuple[int, ...] = ()) -> Query:
    seen_filter = build_filter(ITEMS.keys[list(had)]) if had else b""
    return Query(limit, rows_of(history), seen_filter, rows_of([]), market="")


def test_neighbours_of_the_newest_play_come_first() -> None:
    found = similar_candidates(query([2, 0]), scored_by(NEIGHBOURS, 1.0), ITEMS)

    assert found.rows.tolist() == [4, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.6 * math.exp(-1)], rtol=1e-6)


def test_without_order_all_plays_weigh_alike() -> None:
    found = similar_candidates(query([4, 3, 5]), scored_by(NEIGHBOURS, math.inf), ITEMS)

    assert found.rows.tolist() == [6, 7]
    assert found.scores.tolist() == [1.5, 0.5]


def test_what_was_had_leaves_room_for_what_was_not() -> None:
    found = similar_candidates(query([5], limit=1, had=(6,)), scored_by(NEIGHBOURS), ITEMS)

    assert found.rows.tolist() == [7]


def test_ties_go_to_the_lower_row() -> None:
    found = similar_candidates(query([5], limit=1), scored_by(NEIGHBOURS), ITEMS)

    assert found.rows.tolist() == [6]


def test_only_the_newest_plays_are_looked_up_where_they_fill_the_list() -> None:
    history = [7] * (RECENT_PLAYS - 1) + [2, 3]

    found = similar_candidates(query(history, limit=1), scored_by(NEIGHBOURS), ITEMS)

    assert found.rows.tolist() == [4]


def test_older_plays_fill_the_list_of_who_had_all_that_follows_the_newest() -> None:
    history = [7] * (RECENT_PLAYS - 1) + [2, 3]

    found = similar_candidates(query(history, limit=2), scored_by(NEIGHBOURS), ITEMS)

    assert found.rows.tolist() == [4, 5]


def test_items_without_neighbours_propose_nothing() -> None:
    found = similar_candidates(query([6, 7]), scored_by(NEIGHBOURS), ITEMS)

    assert len(found.rows) == len(found.scores) == 0


def asked_for(history: list[int], *, limit: int, had: tuple[int, ...]) -> list[int | None]:
    """Return how many were asked of the score, one number a look."""
    asked: list[int | None] = []

    def scored(
        plays: NDArray[np.uint32], most: int | None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        asked.append(most)
        return scored_by(NEIGHBOURS)(plays, most)

    similar_candidates(query(history, limit=limit, had=had), scored, ITEMS)
    return asked


def test_all_are_asked_for_only_where_what_was_had_leaves_the_best_short() -> None:
    everything = [0, 1, 2, 3, 4, 5]

    assert asked_for(everything, limit=1, had=()) == [LOOKED_AT]
    assert asked_for(everything, limit=1, had=tuple(range(8))) == [LOOKED_AT, None]
    assert asked_for(everything, limit=3, had=tuple(range(8))) == [3 * LOOKED_AT]


def test_an_empty_history_proposes_nothing() -> None:
    assert len(similar_candidates(query([]), scored_by(NEIGHBOURS), ITEMS).rows) == 0


def numpy_similar(query: Query, neighbours: Neighbours, items: ItemKeys) -> Candidates:
    """Sum all, leave out what was seen, then sort."""
    n_recent = min(RECENT_PLAYS, len(query.history_rows))
    for recent in (query.history_rows[:n_recent], query.history_rows):
        scored = neighbours.scores[recent] * recency_weights(len(recent), RECENCY_SCALE)[:, None]
        rows, places = np.unique(neighbours.rows[recent][scored > 0], return_inverse=True)
        sums = np.bincount(places, weights=scored[scored > 0], minlength=len(rows))
        scores = sums.astype(np.float32)
        unseen = is_unseen(query, rows, items.keys)
        rows, scores = rows[unseen], scores[unseen]
        if len(rows) >= query.limit:
            break
    best = best_first(rows, scores, query.limit)
    return Candidates(rows[best], scores[best], tier=Tier.RECENT_ITEMS)


@settings(max_examples=60, deadline=None)  # the first example compiles
@given(
    seed=st.integers(0, 2**32 - 1),
    plays=st.integers(1, 200),
    had=st.sampled_from([0, 20, 300]),
    limit=st.sampled_from([1, 20, 200, 2000]),
    n_items=st.sampled_from([60, 400]),
)
def test_an_answer_has_the_bits_and_the_order_of_numpys(
    seed: int, plays: int, had: int, limit: int, n_items: int
) -> None:
    random = np.random.default_rng(seed)
    items = ItemKeys(np.sort(random.integers(0, 2**64, n_items, dtype=np.uint64)))
    scores = -np.sort(-random.integers(0, 9, (n_items, 30)).astype(np.float32), axis=1)
    rows = np.array([random.permutation(n_items)[:30] for _ in range(n_items)])
    neighbours = Neighbours(np.where(scores > 0, rows, 0).astype(np.uint32), scores)
    asked = Query(
        limit,
        random.integers(0, n_items, plays).astype(np.uint32),
        build_filter(random.choice(items.keys, had)),
        random.integers(0, n_items, 5).astype(np.uint32),
        market="",
    )

    found = similar_candidates(asked, scored_by(neighbours), items)

    expected = numpy_similar(asked, neighbours, items)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()
