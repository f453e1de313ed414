"""The blend of a request: its sums, against numpy's, and how long it is kept."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.candidates.domain.trending import (
    GLOBAL,
    NO_SNAPSHOT,
    SEGMENT_ITEMS,
    Segment,
    SegmentTop,
    TrendingSnapshot,
)
from services.candidates.domain.trending_blend import (
    BLENDED_GENRES,
    BLENDED_ITEMS,
    GENRE_WEIGHT,
    GLOBAL_WEIGHT,
    MARKET_WEIGHT,
    Blends,
    segments_for,
    weighted_segments,
)
from signals.bundle import ItemKeys

CASES = settings(max_examples=60, deadline=None)  # the first example compiles
ITEMS = ItemKeys(np.arange(50, dtype=np.uint64))  # so that an item's key is its row

Ranking = tuple[NDArray[np.uint32], NDArray[np.float32]]


def ranked(scores: dict[int, float]) -> SegmentTop:
    return SegmentTop(
        np.array(list(scores), dtype=np.uint64), np.array(list(scores.values()), dtype=np.float32)
    )


def snapshot_of(segments: dict[Segment, dict[int, float]]) -> TrendingSnapshot:
    return TrendingSnapshot({key: ranked(top) for key, top in segments.items()}, taken_at_s=0.0)


def blend_of(snapshot: TrendingSnapshot, market: str, genres: list[str]) -> Ranking:
    blend = Blends(ITEMS).of(snapshot, market, genres)
    return blend.rows, blend.scores


def test_a_blend_reads_exactly_the_segments_that_it_names() -> None:
    assert segments_for("DE", ["Rock", "", "Rock", "Pop"]) == [
        GLOBAL,
        Segment("DE"),
        Segment(None, "Rock"),
        Segment("DE", "Rock"),
        Segment(None, "Pop"),
        Segment("DE", "Pop"),
    ]
    assert segments_for("", ["a", "b", "c", "d"])[-1] == Segment(None, "c")
    assert segments_for("", ["x" * 300]) == [GLOBAL]


def test_a_blend_sums_weighted_shares_of_the_best_score() -> None:
    snapshot = snapshot_of(
        {
            GLOBAL: {1: 100.0, 2: 50.0},
            Segment("DE"): {2: 10.0, 3: 5.0},
            Segment("DE", "Rock"): {3: 4.0},
            Segment(None, "Pop"): {4: 2.0},
        }
    )

    rows, scores = blend_of(snapshot, "DE", ["Rock", "Pop"])

    expected = {
        2: MARKET_WEIGHT + GLOBAL_WEIGHT / 2,
        3: MARKET_WEIGHT / 2 + GENRE_WEIGHT,
        4: GENRE_WEIGHT / 2,
        1: GLOBAL_WEIGHT,
    }
    assert rows.tolist() == list(expected)
    assert scores.tolist() == pytest.approx(list(expected.values()))
    assert [rows.dtype.name, scores.dtype.name] == ["uint32", "float32"]


@pytest.mark.parametrize("market", ["", "FR", "XX"])
def test_everywhere_stands_in_for_a_market_that_has_nothing(market: str) -> None:
    snapshot = snapshot_of({GLOBAL: {1: 8.0, 2: 4.0}, Segment("FR"): {}})

    rows, scores = blend_of(snapshot, market, [])

    assert rows.tolist() == [1, 2]
    assert scores.tolist() == [MARKET_WEIGHT, MARKET_WEIGHT / 2]


def test_a_blend_of_nothing_is_empty() -> None:
    for snapshot in (NO_SNAPSHOT, snapshot_of({GLOBAL: {}})):
        rows, scores = blend_of(snapshot, "DE", ["Rock"])

        assert (len(rows), len(scores)) == (0, 0)
        assert [rows.dtype.name, scores.dtype.name] == ["uint32", "float32"]


@CASES
@given(
    st.dictionaries(
        st.builds(
            Segment,
            st.sampled_from([None, "DE", "FR"]),
            st.sampled_from([None, "Rock", "Pop", "Jazz"]),
        ),
        st.dictionaries(st.integers(0, 40), st.sampled_from([9.0, 4.0, 2.0, 0.5]), max_size=15),
    ),
    st.sampled_from(["", "DE", "SE"]),
    st.lists(st.sampled_from(["Rock", "Pop", "Jazz", "Folk"]), max_size=5),
)
def test_a_blend_loses_nothing_doubles_nothing_and_invents_nothing(
    counts: dict[Segment, dict[int, float]], market: str, genres: list[str]
) -> None:
    segments = {
        key: dict(sorted(top.items(), key=lambda entry: (-entry[1], entry[0])))
        for key, top in counts.items()
    }
    snapshot = snapshot_of(segments)

    rows, scores = blend_of(snapshot, market, genres)

    readable = [segments.get(segment, {}) for segment in segments_for(market, genres)]
    proposed = set().union(*readable)
    base = set(segments.get(GLOBAL, {})) | set(segments.get(Segment(market or None), {}))
    assert len(set(rows.tolist())) == len(rows)
    assert base <= set(rows.tolist()) <= proposed
    order = [(-score, row) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
    assert order == sorted(order)
    most = MARKET_WEIGHT + GLOBAL_WEIGHT + BLENDED_GENRES * GENRE_WEIGHT
    assert all(0 < score <= most for score in scores.tolist())


def numpy_blend(
    snapshot: TrendingSnapshot, market: str, genres: list[str], items: ItemKeys
) -> Ranking:
    """Sum and sort by item key, and look up rows at last."""
    weighted = [
        (snapshot.segments[segment], weight)
        for segment, weight in weighted_segments(snapshot, market, genres)
    ]
    keys, places = np.unique(np.concatenate([top.keys for top, _ in weighted]), return_inverse=True)
    values = [
        top.scores.astype(np.float64) * (weight / float(top.scores[0])) for top, weight in weighted
    ]
    scores = np.bincount(places, weights=np.concatenate(values)).astype(np.float32)
    order = np.lexsort((keys, -scores))
    rows = items.rows_of_keys(keys[order])
    return rows[rows >= 0].astype(np.uint32), scores[order][rows >= 0]


def random_snapshot(random: np.random.Generator, keys: NDArray[np.uint64]) -> TrendingSnapshot:
    segments = {}
    for market in (None, "DE", "FR"):
        for genre in (None, "Rock", "Pop", "Jazz", "Folk"):
            size = int(random.choice([1, 30, SEGMENT_ITEMS]))
            scores = random.integers(1, random.choice([4, 10_000]), size).astype(np.float32)
            segments[Segment(market, genre)] = SegmentTop(
                random.choice(keys, size, replace=False), -np.sort(-scores / 7).astype(np.float32)
            )
    return TrendingSnapshot(segments, taken_at_s=0.0)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["", "DE", "FR", "SE"]),
    st.lists(st.sampled_from(["Rock", "Pop", "Jazz", "Folk", "Soul"]), max_size=4),
)
def test_a_blend_has_the_bits_and_the_order_of_numpys_sums(
    seed: int, market: str, genres: list[str]
) -> None:
    random = np.random.default_rng(seed)
    keys = np.unique(random.integers(0, 2**64, 9_000, dtype=np.uint64))
    items = ItemKeys(np.sort(random.choice(keys, 8_000, replace=False)))  # lacks some that trend
    snapshot = random_snapshot(random, keys)

    found = Blends(items).of(snapshot, market, genres)

    rows, scores = numpy_blend(snapshot, market, genres, items)
    assert found.rows.tolist() == rows.tolist()[:BLENDED_ITEMS]
    assert found.scores.tobytes() == scores[:BLENDED_ITEMS].tobytes()


def test_a_blend_is_made_once_for_a_snapshot() -> None:
    blends, snapshot = Blends(ITEMS), snapshot_of({GLOBAL: {1: 8.0}, Segment("DE"): {2: 4.0}})

    first = blends.of(snapshot, "DE", ["Rock"])

    assert blends.of(snapshot, "DE", ["Rock"]) is first
    assert blends.of(snapshot, "DE", []) is not first
    assert blends.of(snapshot, "", ["Rock"]) is not first


def test_genres_that_are_not_read_share_a_blend() -> None:
    blends, snapshot = Blends(ITEMS), snapshot_of({GLOBAL: {1: 8.0}})

    assert blends.of(snapshot, "", ["a", "b", "c", "d"]) is blends.of(
        snapshot, "", ["a", "b", "c", "e"]
    )


def test_a_blend_of_an_older_snapshot_is_never_given() -> None:
    blends = Blends(ITEMS)

    for item in range(40):  # a snapshot may have the address of one that is gone
        assert blends.of(snapshot_of({GLOBAL: {item: 8.0}}), "", []).rows.tolist() == [item]


def test_an_older_snapshot_that_a_request_still_holds_is_blended_as_it_is() -> None:
    blends, old, new = (
        Blends(ITEMS),
        snapshot_of({GLOBAL: {1: 8.0}}),
        snapshot_of({GLOBAL: {2: 8.0}}),
    )

    answers = [blends.of(one, "", []).rows.tolist() for one in (old, new, old, new)]

    assert answers == [[1], [2], [1], [2]]


def test_blends_do_not_keep_a_snapshot() -> None:
    blends, snapshot = Blends(ITEMS), snapshot_of({GLOBAL: {1: 8.0}, Segment("DE"): {2: 4.0}})
    blends.of(snapshot, "DE", ["Rock"])
    snapshot_ref, top_ref = weakref.ref(snapshot), weakref.ref(snapshot.segments[GLOBAL].keys)

    del snapshot
    gc.collect()

    assert snapshot_ref() is None
    assert top_ref() is None


def test_the_least_lately_asked_for_blend_is_given_up_first() -> None:
    blends, snapshot = Blends(ITEMS, max_blends=2), snapshot_of({GLOBAL: {1: 8.0}})
    german, french = blends.of(snapshot, "DE", []), blends.of(snapshot, "FR", [])

    again = blends.of(snapshot, "DE", [])
    blends.of(snapshot, "SE", [])

    assert blends.of(snapshot, "DE", []) is german is again
    assert blends.of(snapshot, "FR", []) is not french


def test_threads_are_answered_from_the_snapshot_that_they_hold() -> None:
    blends = Blends(ITEMS, max_blends=3)
    snapshots = [snapshot_of({GLOBAL: {item: 8.0}}) for item in range(4)]

    def is_right(turn: int) -> bool:
        item = turn % 4
        blend = blends.of(snapshots[item], ["", "DE", "FR", "SE", "US"][turn % 5], [])
        return bool(blend.rows.tolist() == [item])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, range(400)))
