"""Views of a bundle's arrays: what was written is what is mapped."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bundle import (
    LEAST_FADE,
    MARKET_COLUMNS,
    ArrayView,
    Companions,
    Embedding,
    GenreNames,
    Histories,
    IndexedItems,
    ItemKeys,
    ItemTexts,
    MarketRights,
    Neighbours,
    PairWeights,
    Successors,
    Transitions,
    TrendCounts,
    market_column,
    market_name,
)
from signals.keys import item_keys

RANDOM = np.random.default_rng(3)
OF_TWO = (
    np.array([-1, 0, -1, 1], dtype=np.int32),
    np.array([2, np.inf], dtype=np.float32),
    np.array([1, 3], dtype=np.uint32),
    np.array([[[0, -9], [5, 0]], [[0, 1], [-32_767, 0]]], dtype=np.int16),
    np.array([[0.5, 0.25], [1, 0]], dtype=np.float32),
)
OF_NOBODY = (
    np.full(3, -1, dtype=np.int32),
    np.array([2, np.inf], dtype=np.float32),
    np.zeros(0, dtype=np.uint32),
    np.zeros((2, 0, 0), dtype=np.int16),
    np.zeros((2, 0), dtype=np.float32),
)
VIEWS = [
    ItemKeys(np.array([1, 5, 2**64 - 1], dtype=np.uint64)),
    ItemTexts.of(["a", "ö"], ["", "日本"], ["Björk", ""]),
    GenreNames.of(["Jazz", "Ñu"]),
    Embedding(RANDOM.random((3, 4)).astype(np.float32), RANDOM.random((4, 4))),
    Neighbours(np.array([[1, 0]], dtype=np.uint32), np.array([[0.5, 0]], dtype=np.float32)),
    Successors(*OF_TWO),
    Companions(*OF_TWO),
    Transitions(*OF_TWO),
    IndexedItems(np.array([2, 0], dtype=np.uint32)),
]
EMPTY_VIEWS = [
    ItemKeys(np.zeros(0, dtype=np.uint64)),
    ItemTexts.of([], [], []),
    GenreNames.of([]),
    Embedding(np.zeros((0, 4), dtype=np.float32), np.zeros((4, 4))),
    Neighbours(np.zeros((0, 7), dtype=np.uint32), np.zeros((0, 7), dtype=np.float32)),
    Successors(*OF_NOBODY),
    Companions(*OF_NOBODY),
    IndexedItems(np.zeros(0, dtype=np.uint32)),
    Histories(
        np.zeros(0, dtype=np.uint64),
        np.zeros(1, dtype=np.uint64),
        np.zeros(0, dtype=np.uint32),
        np.zeros(0, dtype=np.int64),
    ),
    TrendCounts(
        np.zeros(0, dtype=np.uint16),
        np.zeros(0, dtype=np.uint16),
        np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.uint32),
        np.zeros(0, dtype=np.int64),
    ),
]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.mark.parametrize("view", VIEWS + EMPTY_VIEWS, ids=lambda view: type(view).__name__)
def test_a_view_opens_as_it_was_written(view: ArrayView, tmp_path: Path) -> None:
    view.write(tmp_path)
    opened = type(view).open(tmp_path)

    for field in fields(view):
        written, read = getattr(view, field.name), getattr(opened, field.name)
        assert read.dtype == written.dtype
        np.testing.assert_array_equal(read, written)


def test_a_mapped_array_cannot_be_written(tmp_path: Path) -> None:
    VIEWS[0].write(tmp_path)
    keys = ItemKeys.open(tmp_path).keys

    with pytest.raises(ValueError, match="read-only"):
        keys[0] = 0


def test_arrays_are_mapped_not_copied(tmp_path: Path) -> None:
    VIEWS[0].write(tmp_path)
    keys = ItemKeys.open(tmp_path).keys

    assert isinstance(keys.base, np.memmap)


def test_an_array_that_is_a_slice_is_written_whole(tmp_path: Path) -> None:
    IndexedItems(np.arange(10, dtype=np.uint32)[::3]).write(tmp_path)

    assert IndexedItems.open(tmp_path).rows.tolist() == [0, 3, 6, 9]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Neighbours\.rows\.npy"):
        Neighbours.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ItemKeys.keys.npy").write_bytes(content)

    with pytest.raises(ValueError, match=r"ItemKeys\.keys\.npy"):
        ItemKeys.open(tmp_path)


def test_a_shortened_file_is_refused_by_name(tmp_path: Path) -> None:
    IndexedItems(np.arange(1000, dtype=np.uint32)).write(tmp_path)
    path = tmp_path / "IndexedItems.rows.npy"
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(ValueError, match=r"IndexedItems\.rows\.npy"):
        IndexedItems.open(tmp_path)


def test_known_ids_have_rows_and_unknown_ones_have_none() -> None:
    ids = [f"item-{number}" for number in range(50)]
    items = ItemKeys(np.sort(item_keys(ids)))

    rows = items.rows_of_ids([*ids, "stranger", ""])

    np.testing.assert_array_equal(items.keys[rows[:50]], item_keys(ids))
    assert rows[50:].tolist() == [-1, -1]


@given(st.sets(st.integers(0, 2**64 - 1), max_size=20), st.lists(st.integers(0, 2**64 - 1)))
def test_rows_are_places_in_key_order(held: set[int], asked: list[int]) -> None:
    ordered = sorted(held)
    asked = [*asked, *ordered, 0, 2**64 - 1]

    rows = ItemKeys(np.array(ordered, dtype=np.uint64)).rows_of_keys(
        np.array(asked, dtype=np.uint64)
    )

    assert rows.tolist() == [ordered.index(key) if key in held else -1 for key in asked]


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=8))
def test_texts_come_back_row_by_row(items: list[tuple[str, str, str]]) -> None:
    ids, titles, artists = (
        (list(column) for column in zip(*items, strict=True)) if items else ([],) * 3
    )

    texts = ItemTexts.of(ids, titles, artists)

    rows = range(len(items))
    assert [(texts.item_id(r), texts.title(r), texts.artist(r)) for r in rows] == items
    backwards = np.arange(len(items), dtype=np.uint32)[::-1]
    assert list(texts.of_rows(backwards)) == items[::-1]


def test_texts_of_unequal_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ItemTexts.of(["a", "b"], ["only one"], ["x", "y"])


@given(st.lists(TEXTS, max_size=8))
def test_genre_names_come_back_in_code_order(names: list[str]) -> None:
    assert GenreNames.of(names).names() == tuple(names)


def rows_of(*rows: int) -> NDArray[np.uint32]:
    return np.array(rows, dtype=np.uint32)


@pytest.mark.parametrize("view", [Successors, Companions])
def test_items_have_their_place_among_those_that_take_part_or_none(view: type[PairWeights]) -> None:
    assert view(*OF_TWO).places_of(rows_of(3, 0, 1, 3)).tolist() == [1, -1, 0, 1]
    assert view(*OF_TWO).places_of(rows_of()).tolist() == []
    assert view(*OF_NOBODY).places_of(rows_of(2, 0)).tolist() == [-1, -1]


@pytest.mark.parametrize("of", [OF_TWO, OF_NOBODY], ids=["of two", "of nobody"])
def test_a_row_beyond_the_items_has_no_place_and_is_refused(of: tuple[Any, ...]) -> None:
    regression = Successors(*of)

    with pytest.raises(IndexError, match=f"index {len(regression.places)} is out of bounds"):
        regression.places_of(rows_of(0, len(regression.places)))


def test_plays_fade_at_every_scale_from_1_and_never_at_an_infinite_one() -> None:
    regression = Successors(*OF_TWO)

    fades = regression.fades(3)

    assert fades.dtype == np.float32
    expected = [[1, np.exp(-0.5), np.exp(-1)], [1, 1, 1]]
    np.testing.assert_allclose(fades, expected, rtol=1e-6)
    assert regression.fades(0).shape == (2, 0)


def test_what_hardly_counts_any_more_counts_nothing_and_no_product_of_it_is_slow() -> None:
    pairs = Successors(OF_TWO[0], np.array([0.5, 1], dtype=np.float32), *OF_TWO[2:])

    fades = pairs.fades(200)

    assert np.count_nonzero(fades, axis=1).tolist() == [5, 10]
    assert fades[fades > 0].min() >= LEAST_FADE


def histories() -> Histories:
    return Histories(
        user_keys=np.array([10, 20, 30], dtype=np.uint64),
        offsets=np.array([0, 2, 2, 5], dtype=np.uint64),
        rows=np.array([7, 8, 1, 2, 3], dtype=np.uint32),
        times_s=np.array([100, 200, 1, 2, 3], dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("user_key", "rows", "times_s"),
    [(10, [7, 8], [100, 200]), (20, [], []), (30, [1, 2, 3], [1, 2, 3])],
    ids=["first", "without plays", "last"],
)
def test_a_user_has_the_plays_of_the_user_alone(
    user_key: int, rows: list[int], times_s: list[int]
) -> None:
    found_rows, found_times_s = histories().of(user_key)

    assert found_rows.tolist() == rows
    assert found_times_s.tolist() == times_s


@pytest.mark.parametrize("user_key", [0, 9, 15, 31, 2**64 - 1])
def test_an_unknown_user_has_no_plays(user_key: int) -> None:
    rows, times_s = histories().of(user_key)

    assert len(rows) == len(times_s) == 0


def test_every_market_has_a_column_of_its_own() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    markets = [first + second for first in letters for second in letters]

    assert [market_column(market) for market in markets] == list(range(MARKET_COLUMNS))
    assert [market_name(column) for column in range(MARKET_COLUMNS)] == markets


def test_rights_admit_the_markets_of_their_set_alone() -> None:
    allowed = np.zeros((2, MARKET_COLUMNS), dtype=np.bool_)
    allowed[0] = True
    allowed[1, market_column("SE")] = True
    rights = np.array([1, 0, 1], dtype=np.uint16)

    assert MarketRights(allowed).may_show(rights, "SE").tolist() == [True, True, True]
    assert MarketRights(allowed).may_show(rights, "NO").tolist() == [False, True, False]
