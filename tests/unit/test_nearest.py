"""Nearest: the user's vector among the items', and the Annoy file that finds it."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.candidates.adapters.annoy_index import FILE, AnnoyIndex, write_annoy_index
from services.candidates.domain.nearest import MAX_ROUNDS, UserVector, nearest_candidates
from services.candidates.domain.values import Candidates, Query
from signals.bloom import build_filter
from signals.bundle import Embedding, IndexedItems, ItemKeys

DIMENSION = 16
USER_VECTOR = UserVector(confidence=10.0, regularization=0.05, recency_scale=10.0)


class ExactIndex:
    """A nearest-neighbour index without approximation, which knows what it was asked."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self.asked: list[int] = []

    def nearest(self, vector: NDArray[np.float32], count: int) -> NDArray[np.uint32]:
        self.asked.append(count)
        return exact_nearest(self._vectors, vector, count)


def exact_nearest(
    vectors: NDArray[np.float32], vector: NDArray[np.float32], count: int
) -> NDArray[np.uint32]:
    cosines = vectors @ vector / np.linalg.norm(vectors, axis=1)
    return np.argsort(-cosines, kind="stable")[:count].astype(np.uint32)


def clustered(n_items: int, seed: int) -> NDArray[np.float32]:
    """Return vectors around a dozen centres."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, DIMENSION))
    spread = random.normal(scale=0.4, size=(n_items, DIMENSION))
    return (centres[random.integers(0, 12, n_items)] + spread).astype(np.float32)


def embedding_of(vectors: NDArray[np.float32]) -> Embedding:
    wide = vectors.astype(np.float64)
    return Embedding(vectors, wide.T @ wide)


def keys_of(n_items: int) -> ItemKeys:
    return ItemKeys(np.sort(np.random.default_rng(9).integers(0, 2**64, n_items, dtype=np.uint64)))


VECTORS = clustered(2000, seed=1)
EMBEDDING = embedding_of(VECTORS)
ITEMS = keys_of(2000)


def query(
    history: list[int] | NDArray[np.int64], *, limit: int = 20, seen_filter: bytes = b""
) -> Query:
    no_rows = np.zeros(0, dtype=np.uint32)
    return Query(limit, np.array(history, dtype=np.uint32), seen_filter, no_rows, market="")


def ask(index: ExactIndex | AnnoyIndex, asked: Query) -> Candidates:
    return nearest_candidates(asked, index, EMBEDDING, ITEMS, USER_VECTOR)


@pytest.fixture(scope="module")
def annoy_index(tmp_path_factory: pytest.TempPathFactory) -> AnnoyIndex:
    return written_index(tmp_path_factory.mktemp("index"), VECTORS, np.arange(2000))


def written_index(
    directory: Path, vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> AnnoyIndex:
    indexed = IndexedItems(rows.astype(np.uint32))
    indexed.write(directory)
    write_annoy_index(directory, vectors, indexed.rows)
    return AnnoyIndex(directory, vectors.shape[1])


def test_the_scores_are_inner_products_with_the_folded_in_vector() -> None:
    asked = query([3, 700, 41])

    found = ask(ExactIndex(VECTORS), asked)

    vector = USER_VECTOR.of(asked.history_rows, EMBEDDING)
    np.testing.assert_allclose(found.scores, VECTORS[found.rows] @ vector, rtol=1e-6)
    assert (np.diff(found.scores) <= 0).all()
    assert len(found.rows) == 20
    assert not np.isin(found.rows, [3, 700, 41]).any()


def test_the_newest_plays_weigh_most() -> None:
    confident = UserVector(confidence=1e3, regularization=0.05, recency_scale=1.0)
    history = np.array([5, *range(100, 112)], dtype=np.uint32)

    forwards = confident.of(history, EMBEDDING) @ VECTORS[5]
    backwards = confident.of(history[::-1], EMBEDDING) @ VECTORS[5]

    assert forwards > backwards


def test_without_order_the_order_of_plays_does_not_matter() -> None:
    timeless = UserVector(confidence=10.0, regularization=0.05, recency_scale=math.inf)
    history = np.arange(30, dtype=np.uint32)

    np.testing.assert_allclose(
        timeless.of(history, EMBEDDING), timeless.of(history[::-1], EMBEDDING), rtol=1e-4
    )


def test_one_search_is_enough_when_little_was_seen() -> None:
    index = ExactIndex(VECTORS)

    ask(index, query([3, 700, 41]))

    assert index.asked == [40]


def test_the_search_widens_while_most_neighbours_were_seen() -> None:
    vector = USER_VECTOR.of(np.array([3], dtype=np.uint32), EMBEDDING)
    nearest = exact_nearest(VECTORS, vector, 300)
    index = ExactIndex(VECTORS)

    found = ask(index, query([3], seen_filter=build_filter(ITEMS.keys[nearest])))

    assert index.asked == [40, 160, 640]
    assert len(found.rows) == 20
    assert not np.isin(found.rows, nearest).any()


def test_a_user_who_had_everything_near_costs_a_bounded_search() -> None:
    index = ExactIndex(VECTORS)

    found = ask(index, query([3], limit=1, seen_filter=build_filter(ITEMS.keys)))

    assert len(found.rows) == 0
    assert len(index.asked) == MAX_ROUNDS


def test_the_search_ends_when_the_catalogue_does() -> None:
    index = ExactIndex(VECTORS)

    found = ask(index, query([3], limit=1500))

    assert index.asked == [3000]
    assert len(found.rows) == 1500


def test_a_limit_beyond_the_catalogue_returns_what_the_index_finds(
    annoy_index: AnnoyIndex,
) -> None:
    found = ask(annoy_index, query([3, 4], limit=5000))

    assert 1900 < len(set(found.rows.tolist())) == len(found.rows) <= 1998
    assert not np.isin(found.rows, [3, 4]).any()


def test_an_empty_history_proposes_nothing(annoy_index: AnnoyIndex) -> None:
    assert len(ask(annoy_index, query([])).rows) == 0


def test_a_user_without_a_direction_is_proposed_nothing(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[7] = 0
    index = written_index(tmp_path, vectors, np.flatnonzero(np.arange(2000) != 7))

    found = nearest_candidates(query([7]), index, embedding_of(vectors), ITEMS, USER_VECTOR)

    assert len(found.rows) == len(found.scores) == 0


def test_annoy_finds_nine_in_ten_of_the_true_neighbours(annoy_index: AnnoyIndex) -> None:
    random = np.random.default_rng(2)
    recalls = []
    for _ in range(30):
        vector = (VECTORS[random.integers(2000)] + random.normal(scale=0.2, size=DIMENSION)).astype(
            np.float32
        )
        true = exact_nearest(VECTORS, vector, 50)
        recalls.append(np.isin(true, annoy_index.nearest(vector, 50)).mean())

    assert np.mean(recalls) >= 0.9


def test_annoy_answers_each_row_once_nearest_first(annoy_index: AnnoyIndex) -> None:
    rows = annoy_index.nearest(VECTORS[11], 200)

    cosines = VECTORS[rows] @ VECTORS[11] / np.linalg.norm(VECTORS[rows], axis=1)
    assert rows.dtype == np.uint32
    assert rows[0] == 11
    assert len(set(rows.tolist())) == len(rows) == 200
    assert (np.diff(cosines) <= 1e-5).all()


def test_an_index_of_some_items_answers_their_rows(tmp_path: Path) -> None:
    some = np.arange(5, 2000, 7)
    index = written_index(tmp_path, VECTORS, some)

    rows = index.nearest(VECTORS[12], 5000)

    assert rows[0] == 12
    assert sorted(rows.tolist()) == some.tolist()


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_gets_none(annoy_index: AnnoyIndex, fault: float) -> None:
    vector = VECTORS[0].copy()
    vector[3] = fault

    assert len(annoy_index.nearest(vector, 10)) == 0


def test_the_zero_vector_gets_none(annoy_index: AnnoyIndex) -> None:
    assert len(annoy_index.nearest(np.zeros(DIMENSION, dtype=np.float32), 10)) == 0


def test_two_builds_are_equal_to_the_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written_index(tmp_path / name, VECTORS, np.arange(2000))

    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()


@pytest.mark.parametrize("fault", [0.0, np.nan, np.inf])
def test_a_vector_that_cannot_be_found_again_is_refused(tmp_path: Path, fault: float) -> None:
    vectors = VECTORS[:10].copy()
    vectors[4] = fault

    with pytest.raises(ValueError, match="zero or non-finite vector"):
        write_annoy_index(tmp_path, vectors, np.arange(10, dtype=np.uint32))

    assert list(tmp_path.iterdir()) == []


def test_an_index_without_items_answers_nothing(tmp_path: Path) -> None:
    index = written_index(tmp_path, VECTORS[:0], np.arange(0))

    assert len(index.nearest(VECTORS[0], 10)) == 0


def test_an_index_that_lacks_items_is_refused_by_name(tmp_path: Path) -> None:
    written_index(tmp_path, VECTORS[:50], np.arange(50))
    IndexedItems(np.arange(51, dtype=np.uint32)).write(tmp_path)

    with pytest.raises(ValueError, match=r"annoy\.index holds 50 items, not 51"):
        AnnoyIndex(tmp_path, DIMENSION)
