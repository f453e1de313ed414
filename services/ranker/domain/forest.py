"""A forest of decision trees as bit vectors, scored many rows at a time: exact, and fast.

How this works. Number a tree's leaves from left to right and let every row begin with all of them
possible, a bit each. A split whose condition fails sends a row to the right, which rules out the
leaves on its left: one AND with the split's mask. When every failing split has been applied, in
any order, the lowest bit that is left is the leaf that the row reaches. So splits need not be
followed from a root: they are taken feature by feature in order of their thresholds, each compared
with a block of rows at once by the processor's vector instructions, until a threshold is reached
that no row of the block exceeds. Trees are taken a *chunk* at a time, as many as leave the bits of
a block of rows in the processor's nearest cache.

This is QuickScorer (Lucchese et al., SIGIR 2015), over blocks of rows as in V-QuickScorer
(SIGIR 2016) and RapidScorer (Ye et al., KDD 2018). Scores are LightGBM's to the last bit: splits
decide as `Tree::NumericalDecision` and `Tree::CategoricalDecision` of LightGBM 4 do, and leaves
are added up in float64 in the order of the trees. No code is made for a model; it is all arrays,
which the publisher makes and every worker maps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.forest_kernel import MISSING_NONE, ForestArrays, score_rows
from signals.bundle import ArrayView

CHUNK_WORDS = 48
"""Words of a chunk: 48 KB for a block of 256 rows."""
WORD = 32
"""Leaves of a word. Twice as many rows fit into a register as with 64, and most splits of a tree
of 64 leaves change only one of its two words."""
MAX_WORDS = 32_768
"""Words that one row may need, all trees together: beyond it LightGBM is not slower."""


class NotPackable(ValueError):  # noqa: N818 - says what the model is
    """A sound model that this form cannot hold exactly, or not in sensible memory."""


@dataclass(frozen=True, slots=True)
class Split:
    """One inner node; a value that is at most the threshold, or in the categories, goes left."""

    feature: int
    left: int
    """Node that the left child is, or ~leaf; `right` alike."""
    right: int
    threshold: float = 0.0
    missing: int = MISSING_NONE
    is_missing_left: bool = False
    categories: tuple[int, ...] | None = None
    """Of a categorical split: a bit set of the categories that go left, 32 a word."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree: node 0 is the root; without nodes its only leaf answers everything."""

    splits: tuple[Split, ...]
    leaf_values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Forest(ArrayView):
    """Trees as arrays; a *word* holds the leaves of a tree, or 32 of the leaves of a larger one."""

    groups: NDArray[np.int32]
    """int32 [g, 3]: feature, missing, is_missing_left; what splits compare alike."""
    chunks: NDArray[np.int32]
    """int32 [k + 1]; chunk i has the trees chunks[i] to chunks[i + 1]."""
    split_bounds: NDArray[np.int32]
    """int32 [k * g + 1]; the splits of group j in chunk i are those from the bound i * g + j on."""
    thresholds: NDArray[np.float64]
    """float64 [s], not falling in a group; a split is there once for each word it changes."""
    thresholds32: NDArray[np.float32]
    """float32 [s]: the same, rounded down, which decides every float32 alike."""
    words: NDArray[np.int32]
    """int32 [s]; the word that a split changes when it fails."""
    masks: NDArray[np.uint32]
    """uint32 [s]; what it leaves of that word."""
    category_bounds: NDArray[np.int32]
    """int32 [k + 1]; where the categorical splits of every chunk begin, and the last ends."""
    category_splits: NDArray[np.int32]
    """int32 [c, 4]: feature, word, first and end of the split's part of `categories`."""
    category_masks: NDArray[np.uint32]
    """uint32 [c]; what it leaves of that word."""
    categories: NDArray[np.uint32]
    """uint32; bit sets of the categories that go left."""
    word_bounds: NDArray[np.int32]
    """int32 [t + 1]; the words of tree i are word_bounds[i] to word_bounds[i + 1]."""
    leaf_bounds: NDArray[np.int32]
    """int32 [t + 1]; the same for leaves."""
    leaf_values: NDArray[np.float64]
    """float64, from the leftmost leaf of the first tree on."""

    @classmethod
    def of(cls, trees: Sequence[Tree]) -> Self:
        """Return the arrays of sound trees, in their order. Raises NotPackable."""
        sizes = np.array([len(tree.leaf_values) for tree in trees], dtype=np.int64)
        words = -(-sizes // WORD)
        if words.sum() > MAX_WORDS:
            raise NotPackable(f"its leaves need {words.sum()} words; at most {MAX_WORDS} are held")
        word_bounds, leaf_bounds, chunks = _bounds(words), _bounds(sizes), _chunks(words.tolist())
        parts = [_parts_of(tree) for tree in trees]
        chunk_of = np.repeat(np.arange(len(chunks) - 1), np.diff(chunks)).tolist()
        changes = [
            _Change(split, chunk, first_word + word, mask)
            for chunk, first_word, (_, found) in zip(
                chunk_of, word_bounds.tolist(), parts, strict=False
            )
            for split, word, mask in found
        ]
        return cls(
            **_numerical([one for one in changes if one.split.categories is None], len(chunks) - 1),
            **_categorical(
                [one for one in changes if one.split.categories is not None], len(chunks) - 1
            ),
            chunks=chunks,
            word_bounds=word_bounds,
            leaf_bounds=leaf_bounds,
            leaf_values=np.array([value for values, _ in parts for value in values], dtype=float),
        )

    def __post_init__(self) -> None:
        """Make arrays read-only, as mapped ones are: another type would be compiled for anew."""
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False

    def raw_scores(self, features: NDArray[np.float32 | np.float64]) -> NDArray[np.float64]:
        """Return LightGBM's raw score of each row of `features` ([c, f]), float64 [c].

        Every feature that a split names must be there: the kernel does not check.
        """
        scores = np.zeros(len(features))
        is_single = features.dtype == np.float32
        arrays = {name: getattr(self, name) for name in ForestArrays._fields}
        if is_single:
            arrays["thresholds"] = self.thresholds32
        rows = features if is_single else np.asarray(features, dtype=np.float64)
        score_rows(rows, ForestArrays(**arrays), scores)
        return scores

    @property
    def n_features(self) -> int:
        """How many columns the trees look at, from the first to the last that one names."""
        named = (self.groups[:, 0], self.category_splits[:, 0])
        return 1 + max((int(one.max()) for one in named if len(one)), default=-1)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a split leaves of one word when it fails."""

    split: Split
    chunk: int
    word: int
    mask: int


def _chunks(words: Sequence[int]) -> NDArray[np.int32]:
    """Return where chunks of trees begin and the last ends; a large tree has one of its own."""
    bounds, held = [0], 0
    for tree, count in enumerate(words):
        if held and held + count > CHUNK_WORDS:
            bounds.append(tree)
            held = 0
        held += count
    return np.array([*bounds, len(words)] if words else [0], dtype=np.int32)


def _parts_of(tree: Tree) -> tuple[list[float], list[tuple[Split, int, int]]]:
    """Return the leaf values from left to right, and (split, word of the tree, mask) of each."""
    if not tree.splits:
        return list(tree.leaf_values), []
    order, spans = _in_order(tree.splits)
    changes = [
        (split, word, mask)
        for split, (first, end) in zip(tree.splits, spans, strict=True)
        for word, mask in _masks_without(first, end)
    ]
    return [tree.leaf_values[leaf] for leaf in order], changes


def _in_order(splits: Sequence[Split]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the leaves from left to right and, of each split, the places of those on its left."""
    order: list[int] = []
    firsts, spans = [0] * len(splits), [(0, 0)] * len(splits)
    todo: list[tuple[int, bool]] = [(0, False)]
    while todo:  # by hand: a tree may be deeper than Python's stack
        node, is_left_done = todo.pop()
        if node < 0:
            order.append(~node)
        elif is_left_done:
            spans[node] = (firsts[node], len(order))
            todo.append((splits[node].right, False))
        else:
            firsts[node] = len(order)
            todo += [(node, True), (splits[node].left, False)]
    return order, spans


def _masks_without(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield every word that loses one of the leaves from `first` to `end`, and what it keeps."""
    everything = (1 << WORD) - 1
    for word in range(first // WORD, (end - 1) // WORD + 1):
        low = max(first - word * WORD, 0)
        high = min(end - word * WORD, WORD)
        yield word, everything & ~((1 << high) - (1 << low))


def _numerical(changes: Sequence[_Change], n_chunks: int) -> dict[str, Any]:
    groups = sorted({_group_of(change.split) for change in changes})
    place = {group: number for number, group in enumerate(groups)}

    def bucket(change: _Change) -> int:
        return change.chunk * len(groups) + place[_group_of(change.split)]

    ordered = sorted(changes, key=lambda one: (bucket(one), one.split.threshold, one.word))
    counts = np.bincount([bucket(one) for one in ordered], minlength=n_chunks * len(groups))
    thresholds = np.array([one.split.threshold for one in ordered], dtype=np.float64)
    return {
        "groups": np.array(groups, dtype=np.int32).reshape(-1, 3),
        "split_bounds": _bounds(counts),
        "thresholds": thresholds,
        "thresholds32": _rounded_down(thresholds),
        "words": np.array([one.word for one in ordered], dtype=np.int32),
        "masks": np.array([one.mask for one in ordered], dtype=np.uint32),
    }


def _group_of(split: Split) -> tuple[int, int, int]:
    is_left = split.is_missing_left and split.missing != MISSING_NONE
    return split.feature, split.missing, int(is_left)


def _categorical(changes: Sequence[_Change], n_chunks: int) -> dict[str, Any]:
    sets = [one.split.categories or () for one in changes]
    ends = _bounds(np.array([len(one) for one in sets], dtype=np.int64)).tolist()
    rows = [
        (one.split.feature, one.word, first, end)
        for one, (first, end) in zip(changes, pairwise(ends), strict=True)
    ]
    return {
        "category_splits": np.array(rows, dtype=np.int32).reshape(-1, 4),
        "category_masks": np.array([one.mask for one in changes], dtype=np.uint32),
        "category_bounds": _bounds(np.bincount([one.chunk for one in changes], minlength=n_chunks)),
        "categories": np.array([word for one in sets for word in one], dtype=np.uint32),
    }


def _bounds(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 that is not above each threshold: x <= it decides alike."""
    with np.errstate(over="ignore", under="ignore"):
        nearest = thresholds.astype(np.float32)
        lower = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, lower, nearest).astype(np.float32)
