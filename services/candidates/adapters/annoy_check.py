"""Is an Annoy file sound? Answered from its bytes alone, before Annoy maps it.

Annoy trusts every byte: an index out of range is a crash, a file cut at a node's end loads with
fewer items. How this works. The file is nodes of one size: int32 descendants, then either an item
(its squared length, its vector), a bucket (up to K item numbers) or a split (two child nodes, a
plane). Items come first; the last nodes, all with as many descendants as there are items, are the
roots. A node is written after its children, so a child's number below its parent's proves that
there is no cycle; adding up descendants and counting how often every item is reached proves the
rest.
"""

from pathlib import Path

import numpy as np
from annoy import AnnoyIndex as Annoy
from numpy.typing import NDArray

from services.candidates.adapters.annoy_index import FILE, METRIC
from signals.bundle import IndexedItems

SAMPLED_ITEMS = 256
SELF_SEARCH = 10_000
"""Nodes inspected for an item by its own vector. Items that hardly anybody played have vectors that
no plane tells apart; Annoy spreads those over many buckets at random, and the first need not hold
the item: of 100,000 items played 10 times on average 1 % were not among the first 100 nodes, all
were among 2,000."""
MAX_SELF_DISTANCE = 1e-3
"""Of an item to itself, as Annoy computes it: float32 leaves 5e-4."""
MAX_UNIT_ERROR = 1e-3
"""Of the length of a plane's normal."""
MAX_LENGTH_ERROR = 1e-4
"""Of an item's squared length, relative: float32 sums in another order differ by 1e-6."""
BLOCK_ITEMS = 65_536

_HEAD_BYTES = 12  # descendants and two children stand before the vector
_INT_BYTES = 4

Numbers = NDArray[np.int64]


def check_annoy_structure(directory: Path, vectors: NDArray[np.float32]) -> None:
    """Raise ValueError unless the file holds the vectors of the indexed items and sound trees.

    `vectors` is float32 [n, d] by row. Never opens Annoy. Raises OSError for a missing file.
    """
    rows = IndexedItems.open(directory).rows
    if not len(rows):
        return  # `AnnoyIndex` does not open it either
    nodes = _Nodes.open(directory / FILE, vectors.shape[1], len(rows))
    nodes.check_items(vectors, rows)
    nodes.check_trees()


def check_annoy_answers(directory: Path, vectors: NDArray[np.float32]) -> None:
    """Raise ValueError unless Annoy finds a sample of its items at no distance from themselves.

    Opens the file with Annoy, which may crash: call it in a process that may.
    """
    rows = IndexedItems.open(directory).rows
    if not len(rows):
        return
    index = Annoy(vectors.shape[1], METRIC)
    index.load(str(directory / FILE))
    if index.get_n_items() != len(rows):
        raise ValueError(f"{FILE} holds {index.get_n_items()} items, not {len(rows)}")
    sample = np.linspace(0, len(rows) - 1, min(SAMPLED_ITEMS, len(rows))).astype(np.int64)
    for number in sample.tolist():
        _, distances = index.get_nns_by_vector(
            vectors[rows[number]].tolist(), 1, SELF_SEARCH, include_distances=True
        )
        if not distances or not distances[0] < MAX_SELF_DISTANCE:
            raise ValueError(f"{FILE}: item {number} is not found by its own vector")


class _Nodes:
    """The file as columns."""

    def __init__(self, ints: NDArray[np.int32], n_items: int) -> None:
        self._ints = ints
        self._n_items = n_items
        self._bucket_size = ints.shape[1] - 1
        self._descendants = ints[:, 0].astype(np.int64)

    @classmethod
    def open(cls, path: Path, dimension: int, n_items: int) -> "_Nodes":
        node_bytes = _HEAD_BYTES + _INT_BYTES * dimension
        size = path.stat().st_size
        if size == 0 or size % node_bytes:
            raise ValueError(
                f"{FILE} has {size} bytes, not a multiple of {node_bytes}, a node of dimension "
                f"{dimension}"
            )
        ints = np.memmap(path, dtype="<i4", mode="r").reshape(-1, node_bytes // _INT_BYTES)
        if len(ints) <= n_items or ints[-1, 0] != n_items:
            raise ValueError(
                f"{FILE} holds {int(ints[-1, 0])} items in {len(ints)} nodes, not {n_items} items"
            )
        return cls(ints, n_items)

    def check_items(self, vectors: NDArray[np.float32], rows: NDArray[np.uint32]) -> None:
        """Raise ValueError unless item i is `vectors[rows[i]]`, of some length."""
        for start in range(0, self._n_items, BLOCK_ITEMS):
            block = self._ints[start : min(start + BLOCK_ITEMS, self._n_items)]
            stored, wanted = block[:, 3:], vectors[rows[start : start + len(block)]]
            self._refuse(
                (block[:, 0] != 1) | (block[:, 2] != 0), start, "has descendants of its own"
            )
            self._refuse((stored != wanted.view("<i4")).any(axis=1), start, "has another vector")
            squared = (wanted.astype(np.float64) ** 2).sum(axis=1)
            self._refuse(~(np.isfinite(squared) & (squared > 0)), start, "has no direction")
            held = np.ascontiguousarray(block[:, 1]).view("<f4")
            is_near = np.abs(held - squared) <= MAX_LENGTH_ERROR * squared
            self._refuse(~is_near, start, "has a wrong length")

    def check_trees(self) -> None:
        """Raise ValueError unless every root leads to every item once, over sound nodes."""
        inner = np.arange(self._n_items, len(self._ints))
        n_below = self._descendants[inner]
        self._refuse_nodes(inner[(n_below < 1) | (n_below > self._n_items)], "has a wrong size")
        splits = inner[n_below > self._bucket_size]
        self._check_splits(splits)
        self._check_buckets(inner[n_below <= self._bucket_size])
        for root in self._roots().tolist():
            self._check_reach(root)

    def _check_splits(self, splits: Numbers) -> None:
        children = self._ints[splits, 1:3].astype(np.int64)
        is_below = ((children >= 0) & (children < splits[:, None])).all(axis=1)
        self._refuse_nodes(splits[~is_below], "has a child out of range")
        adds_up = self._descendants[children].sum(axis=1) == self._descendants[splits]
        self._refuse_nodes(splits[~adds_up], "has more or fewer descendants than it says")
        planes = np.ascontiguousarray(self._ints[splits, 3:]).view("<f4").astype(np.float64)
        lengths = np.sqrt((planes**2).sum(axis=1))
        is_plane = (np.abs(lengths - 1) < MAX_UNIT_ERROR) | (lengths == 0)  # 0: split by chance
        self._refuse_nodes(splits[~is_plane], "has a plane that is no unit vector")

    def _check_buckets(self, buckets: Numbers) -> None:
        for start in range(0, len(buckets), BLOCK_ITEMS):
            block = buckets[start : start + BLOCK_ITEMS]
            items = self._ints[block, 1:]
            is_used = np.arange(self._bucket_size) < self._descendants[block][:, None]
            is_wrong = is_used & ((items < 0) | (items >= self._n_items))
            self._refuse_nodes(block[is_wrong.any(axis=1)], "holds an item out of range")

    def _roots(self) -> Numbers:
        """Return what Annoy will take for roots: the last nodes that hold as many as all."""
        others = np.flatnonzero(self._descendants != self._n_items)
        first = max(int(others[-1]) + 1 if len(others) else 0, self._n_items)
        return np.arange(first, len(self._ints))

    def _check_reach(self, root: int) -> None:
        """Raise ValueError unless `root` leads to every item once; ends, as children lie below."""
        reached = np.zeros(self._n_items, dtype=np.int64)
        level = np.array([root])
        while len(level):
            is_item = level < self._n_items
            reached += np.bincount(level[is_item], minlength=self._n_items)
            n_below = self._descendants[level]
            buckets = level[~is_item & (n_below <= self._bucket_size)]
            is_used = np.arange(self._bucket_size) < self._descendants[buckets][:, None]
            held = self._ints[buckets, 1:][is_used]
            reached += np.bincount(held, minlength=self._n_items)
            splits = level[~is_item & (n_below > self._bucket_size)]
            level = self._ints[splits, 1:3].astype(np.int64).ravel()
        missed = np.flatnonzero(reached != 1)
        if len(missed):
            raise ValueError(
                f"{FILE}: root {root} reaches item {missed[0]} {reached[missed[0]]} times, not once"
            )

    def _refuse(self, is_wrong: NDArray[np.bool_], start: int, fault: str) -> None:
        if is_wrong.any():
            raise ValueError(f"{FILE}: item {start + int(is_wrong.argmax())} {fault}")

    def _refuse_nodes(self, wrong: Numbers, fault: str) -> None:
        if len(wrong):
            raise ValueError(f"{FILE}: node {wrong[0]} {fault}")
