"""The Annoy check: what Annoy builds passes, what it would misread or crash on does not."""

from pathlib import Path

import numpy as np
import pytest
from annoy import AnnoyIndex as Annoy
from numpy.typing import NDArray

from services.candidates.adapters.annoy_check import (
    SAMPLED_ITEMS,
    check_annoy_answers,
    check_annoy_structure,
)
from services.candidates.adapters.annoy_index import FILE, METRIC, TREES, write_annoy_index
from signals.bundle import IndexedItems

DIMENSION = 8
N_ITEMS = 200
BUCKET = DIMENSION + 2
"""Items that fit into one node."""
WIDTH = DIMENSION + 3
"""Four-byte words of a node."""

Vectors = NDArray[np.float32]


def some_vectors(count: int = N_ITEMS, dimension: int = DIMENSION) -> Vectors:
    return np.random.default_rng(3).normal(size=(count, dimension)).astype(np.float32)


def write_index(directory: Path, vectors: Vectors, rows: NDArray[np.uint32] | None = None) -> None:
    rows = np.arange(len(vectors), dtype=np.uint32) if rows is None else rows
    IndexedItems(rows).write(directory)
    write_annoy_index(directory, vectors, rows)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A directory with a sound index over `some_vectors()`."""
    write_index(tmp_path, some_vectors())
    return tmp_path


def nodes_of(directory: Path) -> NDArray[np.int32]:
    return np.fromfile(directory / FILE, dtype="<i4").reshape(-1, WIDTH)


@pytest.mark.parametrize("count", [1, 2, BUCKET, BUCKET + 1, N_ITEMS, 3000])
def test_an_index_that_annoy_built_is_sound(count: int, tmp_path: Path) -> None:
    vectors = some_vectors(count)
    write_index(tmp_path, vectors)

    check_annoy_structure(tmp_path, vectors)
    check_annoy_answers(tmp_path, vectors)


@pytest.mark.parametrize("dimension", [1, 2, 64])
def test_any_dimension_is_sound(dimension: int, tmp_path: Path) -> None:
    vectors = some_vectors(300, dimension)
    write_index(tmp_path, vectors)

    check_annoy_structure(tmp_path, vectors)
    check_annoy_answers(tmp_path, vectors)


def test_items_alike_are_sound_though_no_plane_parts_them(tmp_path: Path) -> None:
    vectors = np.repeat(some_vectors(3), 60, axis=0)
    write_index(tmp_path, vectors)

    check_annoy_structure(tmp_path, vectors)
    check_annoy_answers(tmp_path, vectors)


def test_an_item_in_a_crowd_of_equals_is_sound_though_its_bucket_was_drawn(tmp_path: Path) -> None:
    # Fewer than 5 % lie apart: Annoy parts the crowd at random, with the few in its midst.
    vectors = np.repeat(some_vectors(1), 3000, axis=0)
    sampled = np.linspace(0, 2999, SAMPLED_ITEMS).astype(np.int64)[::4]
    vectors[sampled] += 0.02 * some_vectors(len(sampled))
    write_index(tmp_path, vectors)

    check_annoy_structure(tmp_path, vectors)
    check_annoy_answers(tmp_path, vectors)


def test_an_index_of_some_rows_is_sound(tmp_path: Path) -> None:
    vectors = some_vectors()
    write_index(tmp_path, vectors, np.arange(0, N_ITEMS, 3, dtype=np.uint32))

    check_annoy_structure(tmp_path, vectors)
    check_annoy_answers(tmp_path, vectors)


def test_an_index_of_nothing_is_sound_and_never_opened(tmp_path: Path) -> None:
    IndexedItems(np.zeros(0, dtype=np.uint32)).write(tmp_path)
    (tmp_path / FILE).write_bytes(b"anything")

    check_annoy_structure(tmp_path, some_vectors())
    check_annoy_answers(tmp_path, some_vectors())


@pytest.mark.parametrize("size", [0, 1, WIDTH * 4 * 3 + 1])
def test_a_file_that_ends_inside_a_node_is_refused(size: int, index: Path) -> None:
    (index / FILE).write_bytes((index / FILE).read_bytes()[:size])

    with pytest.raises(ValueError, match=rf"{FILE} has {size} bytes, not a multiple of 44"):
        check_annoy_structure(index, some_vectors())


def test_a_file_cut_at_the_end_of_any_node_but_a_root_is_refused(index: Path) -> None:
    nodes = nodes_of(index)

    for kept in (*range(1, len(nodes) - 100, 97), *range(len(nodes) - 100, len(nodes) - TREES)):
        if nodes[kept - 1, 0] == N_ITEMS:
            continue  # an index of fewer trees, which only its size and hash tell
        nodes[:kept].tofile(index / FILE)
        with pytest.raises(ValueError, match=FILE):
            check_annoy_structure(index, some_vectors())


def test_an_index_of_half_the_items_is_refused(index: Path) -> None:
    half = Annoy(DIMENSION, METRIC)
    for number, vector in enumerate(some_vectors()[: N_ITEMS // 2].tolist()):
        half.add_item(number, vector)
    half.build(5, n_jobs=1)
    half.save(str(index / FILE))

    with pytest.raises(ValueError, match=f"{FILE} holds 100 items in .*, not 200"):
        check_annoy_structure(index, some_vectors())


def test_an_index_of_other_vectors_is_refused(index: Path) -> None:
    vectors = some_vectors()
    vectors[17, 3] = np.nextafter(vectors[17, 3], np.float32(9))

    with pytest.raises(ValueError, match=f"{FILE}: item 17 has another vector"):
        check_annoy_structure(index, vectors)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused(value: float, index: Path) -> None:
    vectors, nodes = some_vectors(), nodes_of(index)
    vectors[5] = value
    nodes[5, 3:] = vectors[5].view("<i4")
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=f"{FILE}: item 5 has no direction"):
        check_annoy_structure(index, vectors)


def first_split(nodes: NDArray[np.int32]) -> int:
    return N_ITEMS + int((nodes[N_ITEMS:, 0] > BUCKET).argmax())


NODE_FAULTS = {
    "a child of 10^9": (1, 10**9, "child out of range"),
    "a negative child": (2, -1, "child out of range"),
    "the node itself": (1, None, "child out of range"),
    "another child": (1, 3, "descendants than it says"),
    "a plane of NaN": (4, 0x7FC00000, "no unit vector"),
    "a plane without bounds": (4, 0x7F000000, "no unit vector"),
    "too many descendants": (0, 10**6, "wrong size"),
    "no descendants": (0, 0, "wrong size"),
    "negative descendants": (0, -1, "wrong size"),
}


@pytest.mark.parametrize("fault", NODE_FAULTS)
def test_a_broken_split_is_refused(fault: str, index: Path) -> None:
    column, value, reason = NODE_FAULTS[fault]
    nodes = nodes_of(index)
    split = first_split(nodes)
    nodes[split, column] = split if value is None else value
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=f"{FILE}: node {split} .*{reason}"):
        check_annoy_structure(index, some_vectors())


@pytest.mark.parametrize("item", [10**9, -1, N_ITEMS])
def test_a_bucket_with_an_item_out_of_range_is_refused(item: int, index: Path) -> None:
    nodes = nodes_of(index)
    nodes[N_ITEMS, 1] = item
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=f"{FILE}: node {N_ITEMS} holds an item out of range"):
        check_annoy_structure(index, some_vectors())


def test_a_bucket_with_an_item_doubled_is_refused(index: Path) -> None:
    nodes = nodes_of(index)
    nodes[N_ITEMS, 1] = nodes[N_ITEMS, 2]
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=rf"{FILE}: root \d+ reaches item \d+ [02] times"):
        check_annoy_structure(index, some_vectors())


def test_an_item_with_descendants_is_refused(index: Path) -> None:
    nodes = nodes_of(index)
    nodes[3, 0] = 2
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=f"{FILE}: item 3 has descendants"):
        check_annoy_structure(index, some_vectors())


def test_an_item_with_another_length_is_refused(index: Path) -> None:
    nodes = nodes_of(index)
    nodes[3, 1] = np.float32(1e30).view("<i4")
    nodes.tofile(index / FILE)

    with pytest.raises(ValueError, match=f"{FILE}: item 3 has a wrong length"):
        check_annoy_structure(index, some_vectors())


def test_noise_is_refused(index: Path) -> None:
    random = np.random.default_rng(4)
    for _ in range(50):
        (index / FILE).write_bytes(random.bytes(WIDTH * 4 * 300))
        with pytest.raises(ValueError, match=FILE):
            check_annoy_structure(index, some_vectors())


def test_noise_with_the_right_number_of_items_is_refused(index: Path) -> None:
    sound, random = nodes_of(index), np.random.default_rng(4)
    for _ in range(50):
        nodes = sound.copy()
        noise = random.integers(-3, len(nodes), size=(len(nodes) - N_ITEMS - 25, WIDTH))
        nodes[N_ITEMS:-25] = noise
        nodes.tofile(index / FILE)
        with pytest.raises(ValueError, match=FILE):
            check_annoy_structure(index, some_vectors())


def test_an_index_that_finds_others_is_refused(index: Path) -> None:
    with pytest.raises(ValueError, match=f"{FILE}: item 0 is not found by its own vector"):
        check_annoy_answers(index, -some_vectors())


def test_an_index_of_more_items_is_not_asked(index: Path) -> None:
    IndexedItems(np.arange(N_ITEMS - 1, dtype=np.uint32)).write(index)

    with pytest.raises(ValueError, match=f"{FILE} holds 200 items, not 199"):
        check_annoy_answers(index, some_vectors())
