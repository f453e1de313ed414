"""Trending: segments, buckets and scores."""

import numpy as np
import pytest

from services.candidates.domain.trending import (
    BUCKET_S,
    GLOBAL,
    HALF_LIFE_S,
    NO_SNAPSHOT,
    SEGMENT_ITEMS,
    WINDOW_S,
    BucketCounts,
    BucketTop,
    Segment,
    SegmentTop,
    TrendingSnapshot,
    bucket_of,
    bucket_weight,
    buckets_in_window,
    rank_segment,
)

NOW_S = 1_700_000_000.0
BUCKET = bucket_of(NOW_S)


def ranked(scores: dict[int, float]) -> SegmentTop:
    return SegmentTop(
        np.array(list(scores), dtype=np.uint64), np.array(list(scores.values()), dtype=np.float32)
    )


def snapshot_of(segments: dict[Segment, dict[int, float]]) -> TrendingSnapshot:
    return TrendingSnapshot({key: ranked(top) for key, top in segments.items()}, taken_at_s=0.0)


def top(counts: dict[int, int], bucket: int = BUCKET) -> BucketTop:
    return BucketTop(
        bucket,
        np.array(list(counts), dtype=np.uint64),
        np.array(list(counts.values()), dtype=np.uint64),
        rolled_at_s=NOW_S,
    )


def test_different_segments_have_different_keys() -> None:
    parts = [None, "*", "%2A", "%252A", "#", "%23", "%", "%25", "a", "a#", "#a", "a#*", "A", "ß"]
    segments = [Segment(market, genre) for market in parts for genre in parts]

    keys = {segment.key for segment in segments}

    assert len(keys) == len(segments)
    assert all(key.count("#") == 1 for key in keys)


def test_the_global_key_is_two_stars() -> None:
    assert GLOBAL.key == "*#*"
    assert Segment("DE", "Rock").key == "DE#Rock"


@pytest.mark.parametrize("part", ["", "x" * 201, "ß" * 101])
def test_a_part_of_no_or_too_many_bytes_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match=r"genre has .* allowed are 1 to 200"):
        Segment(None, part)


@pytest.mark.parametrize(
    ("item_ids", "counts", "fault"),
    [
        (["a"], [], "1 item_ids but 0 counts"),
        (["a", "a"], [1, 1], "twice"),
        (["a"], [0], "counts holds 0"),
        ([""], [1], "0 bytes"),
        (["ß" * 129], [1], "258 bytes"),
        (["a\n"], [1], "control character"),
    ],
)
def test_unusable_counts_are_refused(item_ids: list[str], counts: list[int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        BucketCounts(GLOBAL, BUCKET, item_ids, counts)


def test_the_window_starts_with_the_bucket_that_holds_its_first_second() -> None:
    window = buckets_in_window(BUCKET * BUCKET_S + 1.0)

    assert window[-1] == BUCKET
    assert window[0] * BUCKET_S <= BUCKET * BUCKET_S + 1.0 - WINDOW_S < (window[0] + 1) * BUCKET_S


def test_a_count_halves_each_half_life_from_the_middle_of_its_bucket() -> None:
    middle_s = (BUCKET + 0.5) * BUCKET_S

    assert bucket_weight(BUCKET, middle_s - 1.0) == 1.0
    assert bucket_weight(BUCKET, middle_s) == 1.0
    assert bucket_weight(BUCKET, middle_s + HALF_LIFE_S) == pytest.approx(0.5)
    assert bucket_weight(BUCKET, middle_s + 2 * HALF_LIFE_S) == pytest.approx(0.25)


def test_a_segments_score_is_the_decayed_sum_over_its_buckets() -> None:
    older = BUCKET - HALF_LIFE_S // BUCKET_S
    now_s = (BUCKET + 0.5) * BUCKET_S

    result = rank_segment([top({1: 8, 2: 6}, older), top({3: 3, 2: 2})], now_s)

    assert result.keys.tolist() == [2, 1, 3]
    assert result.scores.tolist() == pytest.approx([5.0, 4.0, 3.0])
    assert [result.keys.dtype.name, result.scores.dtype.name] == ["uint64", "float32"]


def test_ties_in_a_segment_break_by_item_key() -> None:
    result = rank_segment([top({2**63 + 5: 1, 7: 1, 2**63: 1})], NOW_S)

    assert result.keys.tolist() == [7, 2**63, 2**63 + 5]


def test_a_segment_keeps_its_best_only() -> None:
    tops = [
        top({bucket * 500 + place: 500 - place for place in range(500)}, BUCKET - bucket)
        for bucket in range(5)
    ]

    result = rank_segment(tops, NOW_S)

    assert len(result) == SEGMENT_ITEMS
    assert 499 not in result.keys.tolist()


def test_a_segment_without_buckets_is_empty() -> None:
    assert len(rank_segment([], NOW_S)) == 0


def test_the_age_of_a_snapshot_is_elapsed_time() -> None:
    snapshot = TrendingSnapshot({}, taken_at_s=100.0)

    assert snapshot.age_s(130.0) == 30.0
    assert NO_SNAPSHOT.age_s(130.0) is None
