"""Views of a bundle's arrays: what was written is what is mapped."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals.bundle import (
    MARKET_COLUMNS,
    NO_LIST,
    ArrayView,
    Companions,
    Embedding,
    GenreNames,
    Histories,
    IndexedItems,
    ItemKeys,
    ItemLinks,
    ItemTexts,
    MarketRights,
    Neighbours,
    PartialLinks,
    Successors,
    TrendCounts,
    market_column,
    market_name,
)
from signals.keys import item_keys

RANDOM = np.random.default_rng(3)
SOME_LINKS = (
    np.array([NO_LIST, 0, NO_LIST, 1], dtype=np.uint32),
    np.array([[3, 0], [1, 0]], dtype=np.uint32),
    np.array([[-0.5, 0.25], [0.5, 0]], dtype=np.float32),
)
NO_LINKS = (
    np.full(3, NO_LIST, dtype=np.uint32),
    np.zeros((0, 2), dtype=np.uint32),
    np.zeros((0, 2), dtype=np.float32),
)
VIEWS = [
    ItemKeys(np.array([1, 5, 2**64 - 1], dtype=np.uint64)),
    ItemTexts.of(["a", "ö"], ["", "日本"], ["Björk", ""]),
    GenreNames.of(["Jazz", "Ñu"]),
    Embedding(RANDOM.random((3, 4)).astype(np.float32), RANDOM.random((4, 4))),
    Neighbours(np.array([[1, 0]], dtype=np.uint32), np.array([[0.5, 0]], dtype=np.float32)),
    Successors(*SOME_LINKS),
    Companions(*SOME_LINKS),
    IndexedItems(np.array([2, 0], dtype=np.uint32)),
]
EMPTY_VIEWS = [
    ItemKeys(np.zeros(0, dtype=np.uint64)),
    ItemTexts.of([], [], []),
    GenreNames.of([]),
    Embedding(np.zeros((0, 4), dtype=np.float32), np.zeros((4, 4))),
    Neighbours(np.zeros((0, 7), dtype=np.uint32), np.zeros((0, 7), dtype=np.float32)),
    Successors(*NO_LINKS),
    Companions(*NO_LINKS),
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


def plays(*rows: int) -> NDArray[np.uint32]:
    return np.array(rows, dtype=np.uint32)


@pytest.mark.parametrize("view", [Successors, Companions])
def test_items_have_the_list_of_their_own_or_none(view: type[PartialLinks]) -> None:
    links = view(*SOME_LINKS)

    assert links.n_items == 4
    assert links.lists_of(plays(3, 0, 1, 3)).tolist() == [1, NO_LIST, 0, 1]
    assert links.lists_of(plays()).tolist() == []


def test_every_item_has_neighbours_at_its_own_row() -> None:
    neighbours = Neighbours(np.zeros((4, 2), dtype=np.uint32), np.zeros((4, 2), dtype=np.float32))

    assert neighbours.n_items == 4
    assert neighbours.lists_of(plays(3, 0, 3)).tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    "links",
    [
        Successors(*SOME_LINKS),
        Companions(*NO_LINKS),
        Neighbours(np.zeros((2, 1), dtype=np.uint32), np.zeros((2, 1), dtype=np.float32)),
        Successors(plays(), *NO_LINKS[1:]),
    ],
    ids=["successors", "no lists", "neighbours", "no items"],
)
def test_a_play_beyond_the_items_has_no_list_and_is_refused(links: ItemLinks) -> None:
    with pytest.raises(IndexError, match=f"row {links.n_items} .*: {links.n_items} items"):
        links.lists_of(plays(links.n_items))


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
