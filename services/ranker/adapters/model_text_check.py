"""Is a LightGBM model text sound? Answered by reading it, before LightGBM does.

LightGBM trusts its model text: a child out of range or a list that is too short reads foreign
memory, a cycle never ends. How this works. The text is a header of `key=value` lines, one block a
tree, and a tail that scoring does not read. Every list must have the length that `num_leaves` asks
for, every number must be one, and every node and leaf must be reached from the root exactly once.
What the format allows and scores of one number are not made of (several classes) is refused.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from services.ranker.adapters.model_text import (
    EVERYTHING,
    FILE,
    IS_CATEGORICAL,
    Ints,
    fields_of,
    ints,
    one,
    reals,
    required,
)

VERSION = "v4"
MAX_BYTES = 256 << 20
MAX_TREES = 10_000
MAX_LEAVES = 131_072
"""LightGBM's own limit of `num_leaves`."""
MAX_SCORE = 1e6
"""Sum over all trees of the largest leaf: LambdaMART's scores are of the order of ten."""

_HEADER = {
    "tree": 1,
    "version": 1,
    "num_class": 1,
    "num_tree_per_iteration": 1,
    "label_index": 1,
    "max_feature_idx": 1,
    "objective": 0,
    "average_output": 0,
    "feature_names": 1,
    "monotone_constraints": 0,
    "feature_infos": 1,
    "tree_sizes": 1,
}
"""Keys that a header has: 1 must, 0 may."""

_NODE_INTS = ("split_feature", "decision_type", "left_child", "right_child", "internal_count")
_NODE_REALS = ("split_gain", "threshold", "internal_value", "internal_weight")
_LEAF_INTS = ("leaf_count",)
_LEAF_REALS = ("leaf_value", "leaf_weight")
_ONE = ("num_leaves", "num_cat", "is_linear", "shrinkage")
_CATEGORIES = ("cat_boundaries", "cat_threshold")
_LINEAR = ("leaf_const", "num_features", "leaf_features", "leaf_coeff")

_MISSING_TYPES = 3  # none, zero, NaN: bits 2 and 3 of a decision


def check_model_file(directory: Path, feature_names: Sequence[str]) -> None:
    """Raise ValueError, or OSError, unless the bundle's model is sound. Never opens LightGBM."""
    path = directory / FILE
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{FILE} has {path.stat().st_size} bytes; at most {MAX_BYTES} are allowed")
    try:
        text = path.read_bytes().decode("ascii")
    except UnicodeDecodeError as exc:
        raise ValueError(f"{FILE}: byte {exc.start} is not ASCII") from exc
    check_model_text(text, feature_names)


def check_model_text(text: str, feature_names: Sequence[str]) -> None:
    """Raise ValueError, naming the tree and the key, unless LightGBM can score `text` safely.

    `feature_names` are the columns that it will be given, in order.
    """
    header_text, has_trees, _ = text.partition("\nTree=")
    header = _check_header(header_text, feature_names)
    if not header["tree_sizes"]:
        raise ValueError(f"{FILE}: 0 trees; 1 to {MAX_TREES} are allowed")
    sizes = ints(header["tree_sizes"], "tree_sizes")
    start = len(header_text) + 1 if has_trees else len(text)
    if len(sizes) > MAX_TREES:
        raise ValueError(f"{FILE}: {len(sizes)} trees; 1 to {MAX_TREES} are allowed")
    greatest = 0.0
    for number, size in enumerate(sizes.tolist()):
        block = text[start : start + size] if 0 < size <= len(text) else ""
        try:
            greatest += _check_tree(block, number, len(feature_names))
        except ValueError as exc:
            raise ValueError(f"{FILE}: Tree={number}: {exc}") from exc
        start += size
    if greatest > MAX_SCORE:
        raise ValueError(f"{FILE}: leaves add up to {greatest:g}; at most {MAX_SCORE:g} is sane")
    _check_tail(text[start:])


def _check_header(text: str, feature_names: Sequence[str]) -> Mapping[str, str]:
    header = fields_of(text.split("\n"), f"{FILE}: header")
    missing = [key for key, must in _HEADER.items() if must and key not in header]
    unknown = [key for key in header if key not in _HEADER]
    if missing or unknown:
        raise ValueError(f"{FILE}: header lacks {missing[:3]} or has unknown {unknown[:3]}")
    expected = {
        "tree": "",
        "version": VERSION,
        "num_class": "1",
        "num_tree_per_iteration": "1",
        "max_feature_idx": str(len(feature_names) - 1),
        "feature_names": " ".join(feature_names),
    }
    for key, value in expected.items():
        if header[key] != value:
            raise ValueError(f"{FILE}: {key} is {header[key][:80]!r}, not {value[:80]!r}")
    if len(header["feature_infos"].split(" ")) != len(feature_names):
        raise ValueError(f"{FILE}: feature_infos has not {len(feature_names)} entries")
    return header


def _check_tail(text: str) -> None:
    lines = text.split("\n")
    if lines[0] != "end of trees":
        raise ValueError(f"{FILE}: `end of trees` does not follow the last tree")
    if "end of parameters" not in lines or not re.fullmatch(
        r"pandas_categorical:[^\n]*\n?", text[text.rfind("pandas_categorical:") :]
    ):
        raise ValueError(f"{FILE}: it ends before its parameters do")


def _check_tree(block: str, number: int, n_features: int) -> float:
    """Check one tree; return its largest leaf, without its sign."""
    title, _, body = block.partition("\n")
    if title != f"Tree={number}" or not block.endswith("\n\n\n"):
        raise ValueError("tree_sizes does not lead to its beginning and end")
    fields = fields_of(body.split("\n"), "it")
    n_leaves, n_cat = one(fields, "num_leaves"), one(fields, "num_cat")
    if not 1 <= n_leaves <= MAX_LEAVES:
        raise ValueError(f"num_leaves is {n_leaves}; 1 to {MAX_LEAVES} are allowed")
    is_linear = one(fields, "is_linear", 0)
    if is_linear not in (0, 1):
        raise ValueError(f"is_linear is {is_linear}; 0 and 1 are allowed")
    if not 0 <= n_cat < n_leaves:
        raise ValueError(f"num_cat is {n_cat} with {n_leaves} leaves")
    _check_lengths(fields, n_leaves, n_cat)
    if n_leaves > 1:
        _check_nodes(fields, n_leaves, n_features)
        _check_splits(fields, n_cat)
    greatest = float(np.abs(reals(fields["leaf_value"], "leaf_value")).max())
    return max(greatest, _check_linear(fields, n_leaves, n_features)) if is_linear else greatest


def _check_lengths(fields: Mapping[str, str], n_leaves: int, n_cat: int) -> None:
    """Raise ValueError unless every list is there, of numbers, and as long as it must be."""
    nodes = n_leaves - 1
    lengths = dict.fromkeys((*_NODE_INTS, *_NODE_REALS), nodes) if nodes else {}
    # LightGBM leaves out or empties what a tree of one leaf does not need.
    lengths |= dict.fromkeys((*_LEAF_INTS, *_LEAF_REALS), n_leaves) if nodes else {}
    lengths["leaf_value"] = n_leaves
    if n_cat:
        lengths["cat_boundaries"] = n_cat + 1
    for key, length in lengths.items():
        found = len(required(fields, key).split(" "))
        if found != length:
            raise ValueError(f"{key} has {found} entries; {n_leaves} leaves need {length}")
    known = {*_NODE_INTS, *_NODE_REALS, *_LEAF_INTS, *_LEAF_REALS, *_ONE, *_CATEGORIES}
    known |= set(_LINEAR) if one(fields, "is_linear", 0) else set()
    for key in fields:
        if key not in known:
            raise ValueError(f"{key[:40]!r} is no key of a tree")
        if fields[key] and key in (*_NODE_INTS, *_LEAF_INTS):
            ints(fields[key], key)
        elif fields[key] and key not in (*_CATEGORIES, *_LINEAR, "threshold"):
            reals(fields[key], key)


def _check_linear(fields: Mapping[str, str], n_leaves: int, n_features: int) -> float:
    """Check the linear functions of the leaves; return the largest constant, without its sign."""
    constants = reals(required(fields, "leaf_const"), "leaf_const")
    counts = ints(required(fields, "num_features"), "num_features")
    for key, found in (("leaf_const", constants), ("num_features", counts)):
        if len(found) != n_leaves:
            raise ValueError(f"{key} has {len(found)} entries; {n_leaves} leaves need {n_leaves}")
    if counts.min() < 0 or counts.max() > n_features:
        raise ValueError(f"num_features is not 0 to {n_features} throughout")
    features = _by_leaf(fields, "leaf_features", counts.tolist())
    coefficients = _by_leaf(fields, "leaf_coeff", counts.tolist())
    if features:
        named = ints(" ".join(features), "leaf_features")
        if named.min() < 0 or named.max() >= n_features:
            raise ValueError(f"leaf_features leads out of the schema's {n_features} features")
        reals(" ".join(coefficients), "leaf_coeff")
    return float(np.abs(constants).max())


def _by_leaf(fields: Mapping[str, str], key: str, counts: Sequence[int]) -> list[str]:
    """Return the entries of a list that has `counts` of each leaf, spaced as LightGBM does."""
    entries = required(fields, key).split()
    if len(entries) != sum(counts):
        raise ValueError(f"{key} has {len(entries)} entries; num_features asks for {sum(counts)}")
    ends = np.cumsum([0, *counts]).tolist()
    leaves = [" ".join(entries[first:end]) for first, end in pairwise(ends)]
    # A space after the entries of a leaf, if it has any, and one after the leaf.
    if fields[key] != "".join(f"{leaf} " if not leaf else f"{leaf}  " for leaf in leaves):
        raise ValueError(f"{key} is not spaced leaf by leaf")
    return entries


def _check_nodes(fields: Mapping[str, str], n_leaves: int, n_features: int) -> None:
    """Raise ValueError unless the root leads to every node and leaf exactly once."""
    features = ints(fields["split_feature"], "split_feature")
    if features.min() < 0 or features.max() >= n_features:
        wrong = features[(features < 0) | (features >= n_features)][0]
        raise ValueError(f"split_feature holds {wrong}; the schema has {n_features} features")
    children = np.stack([ints(fields[key], key) for key in ("left_child", "right_child")], axis=1)
    nodes = n_leaves - 1
    for key, column in zip(("left_child", "right_child"), children.T, strict=True):
        out = (column >= nodes) | (column < -n_leaves)
        if out.any():
            raise ValueError(f"{key} holds {column[out][0]}; there are {nodes} nodes")
    inner = np.bincount(children[children >= 0], minlength=nodes)
    leaves = np.bincount(~children[children < 0], minlength=n_leaves)
    inner[0] += 1  # the root is reached from outside
    if (inner != 1).any() or (leaves != 1).any():
        what, counts = ("node", inner) if (inner != 1).any() else ("leaf", leaves)
        wrong = int((counts != 1).argmax())
        raise ValueError(f"{what} {wrong} is reached {counts[wrong]} times, not once")
    if _reachable(children) != nodes:
        raise ValueError("its children form a cycle that the root does not lead to")


def _reachable(children: Ints) -> int:
    """Return how many nodes the root leads to; each has one parent at most, so this ends."""
    reached, level = 0, np.zeros(1, dtype=np.int64)
    while len(level):
        reached += len(level)
        below = children[level].ravel()
        level = below[below >= 0]
    return reached


def _check_splits(fields: Mapping[str, str], n_cat: int) -> None:
    decisions = ints(fields["decision_type"], "decision_type")
    if decisions.min() < 0 or (decisions >> 2).max() >= _MISSING_TYPES:
        raise ValueError("decision_type holds a decision that LightGBM does not know")
    thresholds = fields["threshold"].split(" ")
    finite = [each for each in thresholds if each != EVERYTHING]
    reals(" ".join(finite) or "0", "threshold")
    by_category = np.array(thresholds)[(decisions & IS_CATEGORICAL) == 1]
    if sorted(by_category.tolist()) != sorted(map(str, range(n_cat))):
        raise ValueError(f"its categorical splits are not the {n_cat} of num_cat, each once")
    if n_cat:
        _check_categories(fields)


def _check_categories(fields: Mapping[str, str]) -> None:
    bounds = ints(fields["cat_boundaries"], "cat_boundaries")
    words = ints(required(fields, "cat_threshold"), "cat_threshold")
    if bounds[0] != 0 or (np.diff(bounds) < 1).any() or bounds[-1] != len(words):
        raise ValueError(f"cat_boundaries do not divide the {len(words)} of cat_threshold")
    if words.min() < 0 or words.max() > np.iinfo(np.uint32).max:
        raise ValueError("cat_threshold holds a value that is no uint32")
