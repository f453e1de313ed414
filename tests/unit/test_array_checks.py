"""The array checks: a published bundle passes, one wrong value in an array does not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshkit.bundles import Bundle
from pipeline.array_checks import ARRAY_CHECKS, SHAPES, UnsoundError, check_facts, check_shapes
from pipeline.forest_files import FILES as FOREST
from pipeline.tables import Tables
from signals.bundle_facts import BundleFacts

Edit = Callable[[NDArray[Any]], Any]


@pytest.fixture(scope="module")
def facts(small_bundle: Bundle) -> BundleFacts:
    return BundleFacts.from_json(small_bundle.manifest.facts)


@pytest.fixture
def copy(small_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the small bundle's directory, to be broken."""
    return Path(shutil.copytree(small_bundle.path, tmp_path / "copy"))


def check_arrays(directory: Path, facts: BundleFacts) -> None:
    tables = Tables.open(directory, facts)
    check_shapes(directory, tables)
    for check in ARRAY_CHECKS:
        check.run(tables)


def edit_array(directory: Path, name: str, edit: Edit) -> None:
    file = directory / f"{name}.npy"
    array = np.load(file)
    edited = edit(array)
    np.save(file, array if edited is None else edited)


def put(place: object, value: object) -> Edit:
    def edit(array: NDArray[Any]) -> None:
        array.__setitem__(place, value)  # type: ignore[call-overload] # any index that numpy takes

    return edit


def swap(first: int, second: int) -> Edit:
    def edit(array: NDArray[Any]) -> None:
        array[[first, second]] = array[[second, first]]

    return edit


def test_a_published_bundle_is_sound(small_bundle: Bundle, facts: BundleFacts) -> None:
    check_facts(facts)
    check_arrays(small_bundle.path, facts)


def test_every_array_of_a_bundle_but_the_forests_has_a_shape(small_bundle: Bundle) -> None:
    of_tables = {path.stem for path in small_bundle.path.glob("*.npy")} - {
        name.removesuffix(".npy") for name in FOREST
    }

    assert of_tables == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_an_array_of_another_type_is_refused(name: str, copy: Path, facts: BundleFacts) -> None:
    edit_array(copy, name, lambda array: array.astype(np.complex64))

    with pytest.raises(UnsoundError, match=rf"^{name}\.npy: holds <c8, not"):
        check_arrays(copy, facts)


@pytest.mark.parametrize("name", SHAPES)
def test_an_array_of_another_byte_order_is_refused(
    name: str, copy: Path, facts: BundleFacts
) -> None:
    edit_array(copy, name, lambda array: array.astype(array.dtype.newbyteorder(">")))

    if SHAPES[name][0].startswith("|"):
        check_arrays(copy, facts)
    else:
        with pytest.raises(UnsoundError, match=rf"^{name}\.npy: holds >"):
            check_arrays(copy, facts)


@pytest.mark.parametrize("name", SHAPES)
def test_an_array_that_is_one_shorter_is_refused(name: str, copy: Path, facts: BundleFacts) -> None:
    edit_array(copy, name, lambda array: array[:-1])

    with pytest.raises(UnsoundError):
        check_arrays(copy, facts)


@pytest.mark.parametrize("name", SHAPES)
def test_an_array_of_more_dimensions_is_refused(name: str, copy: Path, facts: BundleFacts) -> None:
    edit_array(copy, name, lambda array: array[..., None])

    with pytest.raises(UnsoundError, match=rf"^{name}\.npy: has \d dimensions"):
        check_arrays(copy, facts)


@pytest.mark.parametrize("name", SHAPES)
def test_bytes_after_an_array_are_refused(name: str, copy: Path, facts: BundleFacts) -> None:
    with (copy / f"{name}.npy").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(UnsoundError, match=rf"^{name}\.npy: has \d+ bytes"):
        check_arrays(copy, facts)


def test_columns_in_another_order_are_refused(copy: Path, facts: BundleFacts) -> None:
    edit_array(copy, "Embedding.vectors", np.asfortranarray)

    with pytest.raises(UnsoundError, match=r"^Embedding\.vectors\.npy: stands in columns"):
        check_arrays(copy, facts)


PAIR_FAULTS: list[tuple[str, Edit, str]] = [
    ("places", put(0, 10**9), "does not number the items"),
    ("places", put(0, -1), "does not number the items"),
    ("places", put(0, -2), "does not number the items"),
    ("places", swap(0, 1), "does not number the items"),
    ("places", put(1, 0), "does not number the items"),
    ("rows", put(5, 60), "holds row 60"),
    ("rows", swap(0, 1), "does not rise"),
    ("rows", lambda rows: put(1, rows[0])(rows), "does not rise"),
    ("scales", put(0, 0), "not above 0"),
    ("scales", put(0, -1), "not above 0"),
    ("scales", put(0, np.nan), "not above 0"),
    ("units", put((0, 5), np.nan), "below 0 or none"),
    ("units", put((0, 5), np.inf), "below 0 or none"),
    ("units", put((0, 5), -1e-9), "below 0 or none"),
    ("weights", put((0, 5, 5), 1), "an item that weighs for itself"),
    ("weights", put((-1, 0, 0), -1), "an item that weighs for itself"),
    ("weights", lambda weights: weights[:, :, :-1].copy(), "items with"),
]
"""Of a view of pair weights."""

FAULTS: list[tuple[str, Edit, str]] = [
    ("ItemKeys.keys", swap(3, 4), "not strictly increasing"),
    ("ItemKeys.keys", lambda keys: keys - np.uint64(1), "row 0 is not the key of its id"),
    ("ItemTexts.offsets", put(0, 1), "does not begin at 0"),
    ("ItemTexts.offsets", swap(3, 9), "falls"),
    ("ItemTexts.offsets", put(-1, 10**15), "ends at"),
    ("ItemTexts.text", put(0, 0xFF), "byte 0 is not UTF-8"),
    ("ItemTraits.artists", put(0, 60), "holds code 60 for 60 items"),
    ("ItemTraits.recordings", lambda codes: codes * 2 % 60, "leaves out code 1"),
    ("ItemTraits.rights", put(2, 2), "there are 2 sets"),
    ("ItemTraits.genres", put((0, 0), 3), "there are 3 genres"),
    ("ItemTraits.genres", put(0, [0xFFFF, 0, 0xFFFF]), "a genre after none"),
    ("GenreNames.text", lambda text: text * 0 + ord("a"), "names a genre twice"),
    ("GenreNames.offsets", put(1, 200), "falls"),
    ("MarketRights.allowed", lambda sets: (sets.view(np.uint8) * 2).view(np.bool_), "no boolean"),
    ("MarketRights.allowed", put(0, False), "without a market"),
    ("MarketRights.allowed", put(slice(None), True), "twice"),
    ("Embedding.vectors", put((7, 3), np.nan), "row 7 is not finite"),
    ("Embedding.vectors", put((7, 3), -np.inf), "row 7 is not finite"),
    ("Embedding.gram", put((1, 2), np.nan), "not finite"),
    ("Embedding.gram", lambda gram: gram * (1 + 1e-9), "not that of Embedding.vectors"),
    ("IndexedItems.rows", put(-1, 60), "holds row 60"),
    ("IndexedItems.rows", swap(0, 1), "not strictly increasing"),
    ("Neighbours.rows", put((5, 0), 60), "holds row 60"),
    ("Neighbours.rows", put((5, 0), 5), "row 5 holds the item itself"),
    ("Neighbours.rows", lambda rows: put((5, 1), rows[5, 0])(rows), "row 5 holds a row twice"),
    ("Neighbours.rows", put((5, -1), 1), "row 5 holds a row in its padding"),
    ("Neighbours.scores", put((5, 0), np.inf), "row 5 has a score"),
    ("Neighbours.scores", put((5, 0), -1), "row 5 has a score"),
    ("Neighbours.scores", put((5, 0), 0), "row 5 is not best first"),
    ("Neighbours.scores", put((5, 0), 2), "row 5 sums to more than 1"),
    ("Neighbours.scores", lambda s: put(5, s[5] / 2)(s), "row 5 is whole and sums to less"),
    *(
        (f"{view}.{name}", edit, reason)
        for view in ("Successors", "Companions", "Transitions")
        for name, edit, reason in PAIR_FAULTS
    ),
    ("Transitions.weights", np.negative, "below 0, and they are counts"),
    ("Popularity.rows", put(0, 60), "holds row 60"),
    ("Popularity.rows", lambda rows: put(1, rows[0])(rows), "every row once"),
    ("Popularity.rows", swap(0, -1), "more listeners than the one before"),
    ("ItemStats.share", put(3, np.nan), "row 3 is not its part"),
    ("ItemStats.share", lambda share: share / 2, "is not its part"),
    ("ItemStats.recent_share", lambda share: share[::-1].copy(), "is not its part"),
    ("ItemStats.share_rank", lambda rank: 1 - rank, "is not its place by plays"),
    ("ItemStats.first_played_s", lambda first: first + 1, "the time of its first play"),
    ("ItemStats.place", lambda place: place + np.float32(0.01), "not what the plays say"),
    ("ItemStats.depth", put(3, np.nan), "row 3 is not what the plays say"),
    ("ItemStats.late_share", lambda share: 1 - share, "not what the plays say"),
    ("ItemTraits.released", put(3, np.inf), "row 3 is no year"),
    ("ItemTraits.released", put(3, 1e30), "row 3 is no year"),
    ("Histories.user_keys", swap(0, 1), "not strictly increasing"),
    ("Histories.offsets", put(0, 1), "does not begin at 0"),
    ("Histories.offsets", swap(1, 2), "falls"),
    ("Histories.offsets", put(-1, 10**15), "ends at"),
    ("Histories.offsets", put(1, 0), "user without plays"),
    ("Histories.rows", put(0, 60), "holds row 60"),
    ("Histories.times_s", put(0, -1), "window of the facts"),
    ("Histories.times_s", put(-1, 2**60), "after the bundle's own"),
    ("Histories.times_s", lambda times: times[::-1].copy(), "older than the one before"),
    ("TrendCounts.rows", put(0, 60), "holds row 60"),
    ("TrendCounts.genres", put(0, 3), "there are 3 genres"),
    ("TrendCounts.markets", put(0, 676), "no market"),
    ("TrendCounts.counts", put(0, 0), "no number of users"),
    ("TrendCounts.counts", put(0, 10**6), "no number of users"),
    ("TrendCounts.counts", lambda counts: counts[::-1].copy(), "not greatest first"),
    ("TrendCounts.buckets", put(0, 2**60), "after the bundle's own time"),
    ("TrendCounts.buckets", put(-1, 0), "not oldest first"),
    ("TrendCounts.markets", lambda markets: put(-1, markets[0])(markets), "in two places"),
]


@pytest.mark.parametrize(
    ("name", "edit", "reason"), FAULTS, ids=[f"{name}: {reason}"[:60] for name, _, reason in FAULTS]
)
def test_a_wrong_value_is_refused_with_a_file(
    name: str, edit: Edit, reason: str, copy: Path, facts: BundleFacts
) -> None:
    edit_array(copy, name, edit)

    with pytest.raises(UnsoundError, match=rf"^\w+\.\w+\.npy: .*{reason}"):
        check_arrays(copy, facts)


@pytest.mark.parametrize("view", ["Successors", "Companions", "Transitions"])
@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_scales_than_features_have_columns_for_is_refused(
    view: str, count: int, copy: Path, facts: BundleFacts
) -> None:
    for name in ("scales", "weights", "units"):
        edit_array(
            copy, f"{view}.{name}", lambda array: np.resize(array, (count, *array.shape[1:]))
        )
    edit_array(copy, f"{view}.scales", lambda scales: scales * np.arange(1, count + 1, dtype="f4"))

    with pytest.raises(UnsoundError, match=rf"^{view}\.scales\.npy: has {count} scales of"):
        check_arrays(copy, facts)


def test_a_vector_of_an_item_that_is_not_indexed_is_refused(copy: Path, facts: BundleFacts) -> None:
    indexed = np.load(copy / "IndexedItems.rows.npy")
    unindexed = int(np.setdiff1d(np.arange(facts.items), indexed)[0])
    edit_array(copy, "Embedding.vectors", put(unindexed, 1))

    with pytest.raises(UnsoundError, match=f"row {unindexed} is not zero but not indexed"):
        check_arrays(copy, facts)


FACT_FAULTS: dict[str, tuple[object, str]] = {
    "items": (0, "items is 0"),
    "users": (-1, "users is -1"),
    "events": (1.5, "events is 1.5"),
    "dimension": (10**6, "dimension is 1000000"),
    "as_of_s": (True, "as_of_s is True"),
    "window_start_s": (2**50, "starts after its end"),
    "recent_window_s": (None, "recent_window_s is None"),
    "order": ("random", "order is 'random'"),
    "metric": ("dot", "metric is 'dot'"),
    "als_confidence": (float("nan"), "als_confidence is nan"),
    "als_regularization": (0, "als_regularization is 0"),
    "features": (["first"], "1 features that are not"),
    "sources": (["ann", "radio"], "sources is .*'radio'"),
}


@pytest.mark.parametrize("sources", [[], ["ann", "ann"]], ids=["none", "one twice"])
def test_facts_without_sources_or_with_one_twice_are_refused(
    sources: list[str], facts: BundleFacts
) -> None:
    wrong = BundleFacts.from_json({**facts.to_json(), "sources": sources})

    with pytest.raises(UnsoundError, match=r"^facts: sources is .* each once of"):
        check_facts(wrong)


@pytest.mark.parametrize("name", FACT_FAULTS)
def test_a_wrong_fact_is_refused_by_its_name(name: str, facts: BundleFacts) -> None:
    value, reason = FACT_FAULTS[name]
    wrong = BundleFacts.from_json({**facts.to_json(), name: value})

    with pytest.raises(UnsoundError, match=f"^facts: .*{reason}"):
        check_facts(wrong)
