"""What pages are like, by hand."""

import math

import numpy as np
import pytest

from pipeline.quality.slates import (
    ItemFacts,
    artist_places,
    gini,
    largest_share,
    mean_popularity,
    novelty_bits,
    slate_facts,
)
from tests.unit.observations import rows

ITEMS = ItemFacts(
    share=np.array([0.5, 0.25, 0.25, 0.0], dtype=np.float32),
    share_rank=np.array([0.0, 1 / 3, 2 / 3, 1.0], dtype=np.float32),
    artists=np.array([7, 7, 8, 9], dtype=np.uint32),
    n_plays=16,
)


def test_novelty_is_the_mean_information_of_what_is_shown() -> None:
    assert novelty_bits(rows(0, 1), ITEMS) == pytest.approx((1 + 2) / 2)


def test_an_item_that_nobody_played_counts_as_played_once() -> None:
    assert novelty_bits(rows(3), ITEMS) == pytest.approx(math.log2(16))


def test_the_most_played_item_has_popularity_one_and_the_least_none() -> None:
    assert mean_popularity(rows(0), ITEMS) == 1.0
    assert mean_popularity(rows(3), ITEMS) == 0.0
    assert mean_popularity(rows(0, 3), ITEMS) == 0.5
    assert math.isnan(mean_popularity(rows(), ITEMS))


def test_the_largest_share_is_of_the_artist_with_most_places() -> None:
    assert largest_share(ITEMS.artists[rows(0, 1, 2)]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1, 1, 1, 1], 0.0), ([0, 0, 0, 4], 0.75), ([1, 3], 0.25), ([3, 1], 0.25)],
)
def test_gini_is_none_for_equals_and_grows_with_inequality(
    counts: list[int], expected: float
) -> None:
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_artists_that_nobody_was_shown_count_as_without_a_place() -> None:
    assert artist_places(rows(0, 1, 1), ITEMS.artists).tolist() == [3, 0, 0]


def test_the_facts_of_pages_are_means_over_pages() -> None:
    own = np.array([0.5, 0.0, np.nan])

    found = slate_facts([rows(0, 1), rows(2), rows(0)], own, ITEMS)

    assert found.catalogue_coverage == 0.75
    assert found.novelty_bits == pytest.approx((1.5 + 2 + 1) / 3)
    assert found.popularity == pytest.approx((5 / 6 + 1 / 3 + 1) / 3)
    assert found.popularity_lift == pytest.approx(((5 / 6 - 0.5) + 1 / 3) / 2)
    assert found.artist_share == 1.0
    assert found.artist_gini == pytest.approx(gini(np.array([3, 1, 0])))


def test_empty_pages_say_nothing() -> None:
    assert slate_facts([rows(), rows(2)], np.array([0.9, 0.0]), ITEMS) == slate_facts(
        [rows(2)], np.array([0.0]), ITEMS
    )
    assert slate_facts([rows()], np.array([0.5]), ITEMS).catalogue_coverage == 0.0
