"""The forest: what walking the trees finds, whatever they and the rows are like."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.domain import forest as forest_module
from services.ranker.domain.forest import Forest, NotPackable, Split, Tree
from services.ranker.domain.forest_kernel import score_rows
from tests.unit.forest_rows import SPECIALS, rows_of, same_bits, walked

N_FEATURES = 4
THRESHOLDS = (*(value for value in SPECIALS if value > -np.inf), 0.25, 0.25 + 1e-12, 7.5)
ROW_COUNTS = (0, 1, 2, 63, 64, 65, 255, 256, 257, 500)


def random_tree(random: np.random.Generator, n_leaves: int) -> Tree:
    """Return a tree of any shape: each new split takes the place of some leaf."""
    splits: list[Split] = []
    open_ends: list[tuple[int, str]] = []
    for node in range(n_leaves - 1):
        if splits:
            parent, side = open_ends.pop(int(random.integers(len(open_ends))))
            splits[parent] = _with_child(splits[parent], side, node)
        splits.append(_random_split(random))
        open_ends += [(node, "left"), (node, "right")]
    for leaf, place in enumerate(random.permutation(len(open_ends)).tolist()):
        parent, side = open_ends[place]
        splits[parent] = _with_child(splits[parent], side, ~leaf)
    return Tree(tuple(splits), tuple((random.normal(size=n_leaves) / 3).tolist()))


def _random_split(random: np.random.Generator) -> Split:
    feature = int(random.integers(N_FEATURES))
    if random.random() < 0.15:
        words = random.integers(0, 1 << 32, size=int(random.integers(1, 4)))
        return Split(feature, 0, 0, categories=tuple(words.tolist()))
    threshold = float(random.choice(THRESHOLDS) if random.random() < 0.5 else random.normal())
    missing, is_left = int(random.integers(3)), bool(random.integers(2))
    return Split(feature, 0, 0, threshold, missing, is_left)


def _with_child(split: Split, side: str, node: int) -> Split:
    left, right = (node, split.right) if side == "left" else (split.left, node)
    return Split(
        split.feature,
        left,
        right,
        split.threshold,
        split.missing,
        split.is_missing_left,
        split.categories,
    )


def chain(n_leaves: int, *, is_left: bool) -> Tree:
    """Return the deepest tree of so many leaves."""
    nodes = n_leaves - 1
    splits = []
    for node in range(nodes):
        end = node + 1 if node + 1 < nodes else ~nodes
        left, right = (end, ~node) if is_left else (~node, end)
        splits.append(Split(node % N_FEATURES, left, right, 0.1))
    return Tree(tuple(splits), tuple(np.linspace(-1, 1, n_leaves).tolist()))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(
        st.sampled_from((1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 96, 97, 200)), min_size=1, max_size=12
    ),
    count=st.sampled_from(ROW_COUNTS),
    dtype=st.sampled_from((np.float32, np.float64)),
    is_by_column=st.booleans(),
)
def test_scores_are_those_of_walking_every_tree(
    seed: int, sizes: list[int], count: int, dtype: type[np.float32], is_by_column: bool
) -> None:
    random = np.random.default_rng(seed)
    trees = [random_tree(random, size) for size in sizes]
    used = [split.threshold for tree in trees for split in tree.splits]
    rows = rows_of(random, min(count, 3000 // len(sizes)), N_FEATURES, used, dtype)

    if is_by_column:
        rows = np.asfortranarray(rows)
    scores = Forest.of(trees).raw_scores(rows)

    assert same_bits(scores, walked(trees, rows))


@pytest.mark.parametrize("count", ROW_COUNTS)
def test_a_rows_score_does_not_depend_on_how_many_stand_beside_it(count: int) -> None:
    random = np.random.default_rng(count)
    forest = Forest.of([random_tree(random, 31) for _ in range(40)])
    rows = rows_of(random, 500, N_FEATURES, [], np.float32)
    together = forest.raw_scores(rows)

    assert same_bits(forest.raw_scores(rows[:count]), together[:count])


@pytest.mark.parametrize("is_left", [True, False])
@pytest.mark.parametrize("n_leaves", [2, 32, 64, 65, 3000])
def test_the_deepest_trees_are_packed(n_leaves: int, is_left: bool) -> None:
    trees = [chain(n_leaves, is_left=is_left)]
    rows = rows_of(np.random.default_rng(3), 40, N_FEATURES, [0.1], np.float64)

    assert same_bits(Forest.of(trees).raw_scores(rows), walked(trees, rows))


def test_trees_of_one_leaf_add_their_constant() -> None:
    forest = Forest.of([Tree((), (0.5,)), Tree((), (0.25,))])

    assert forest.raw_scores(np.zeros((3, 0), dtype=np.float32)).tolist() == [0.75] * 3
    assert forest.n_features == 0


def test_features_are_counted_to_the_last_that_a_split_names() -> None:
    last_is_category = Split(6, ~0, ~1, categories=(3,))

    assert Forest.of([Tree((Split(2, ~0, ~1),), (0.0, 1.0))]).n_features == 3
    assert Forest.of([Tree((last_is_category,), (0.0, 1.0))]).n_features == 7


def test_a_forest_of_too_many_leaves_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest_module, "MAX_WORDS", 3)
    tree = chain(33, is_left=True)

    Forest.of([tree, Tree((), (1.0,))])
    with pytest.raises(NotPackable, match="need 4 words; at most 3 are held"):
        Forest.of([tree, tree])


def test_a_forest_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    made = Forest.of([random_tree(random, 200) for _ in range(5)])
    made.write(tmp_path)
    mapped = Forest.open(tmp_path)
    rows = rows_of(random, 100, N_FEATURES, [], np.float32)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Forest.file_names())
    assert same_bits(mapped.raw_scores(rows), made.raw_scores(rows))


def test_made_and_mapped_forests_are_compiled_for_once(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    plain = Forest.of([random_tree(random, 31) for _ in range(5)])
    without_any = Forest.of([Tree((), (1.0,))])
    rows = rows_of(random, 100, N_FEATURES, [], np.float32)
    plain.raw_scores(rows)
    compiled = list(score_rows.signatures)

    for forest in (plain, without_any):
        forest.write(tmp_path)
        for each in (rows, rows[:1], rows[:0], rows[::-1].copy()):
            Forest.open(tmp_path).raw_scores(each)

    assert score_rows.signatures == compiled
