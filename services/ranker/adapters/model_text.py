"""A LightGBM model text as values: its header, its trees, and the numbers in their lists.

The text is a header of `key=value` lines, one block a tree, and a tail that scoring does not read.
Nothing here checks more than that a number is one: `model_text_check` does, and what is read as
trees has passed it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.forest import NotPackable, Split, Tree

FILE = "ranker.txt"
"""The model in a bundle."""

IS_CATEGORICAL, IS_MISSING_LEFT = 1, 2
"""Bits of a decision; what it takes for missing stands above them."""
EVERYTHING = "inf"
"""A threshold that parts missing values from all others: LightGBM's own models hold it."""

_INT = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_REAL = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?", re.ASCII)

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


def trained_on(text: str) -> tuple[str, ...]:
    """Return the names of the features of a model text, in order; only its beginning is read."""
    return tuple(fields_of(_header(text).split("\n"), FILE).get("feature_names", "").split(" "))


def read_trees(text: str) -> tuple[Tree, ...]:
    """Return the trees of a model text that `check_model_text` has passed.

    Raises NotPackable for what is more than a sum of one leaf a tree.
    """
    header_text = _header(text)
    if "average_output" in fields_of(header_text.split("\n"), FILE):
        raise NotPackable("it is a random forest, whose score is a mean")
    return tuple(_tree(block) for block in _blocks(text, header_text))


def _header(text: str) -> str:
    return text.partition("\nTree=")[0]


def _blocks(text: str, header_text: str) -> Iterator[str]:
    header = fields_of(header_text.split("\n"), FILE)
    start = len(header_text) + 1
    for size in ints(header["tree_sizes"], "tree_sizes").tolist():
        yield text[start : start + size]
        start += size


def _tree(block: str) -> Tree:
    title, _, body = block.partition("\n")
    fields = fields_of(body.split("\n"), title)
    if one(fields, "is_linear", 0):
        raise NotPackable(f"{title} is linear: its leaves are functions of features")
    leaf_values = tuple(reals(fields["leaf_value"], "leaf_value").tolist())
    return Tree(_splits(fields) if len(leaf_values) > 1 else (), leaf_values)


def _splits(fields: Mapping[str, str]) -> tuple[Split, ...]:
    features, decisions, lefts, rights = (
        ints(fields[key], key).tolist()
        for key in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds = fields["threshold"].split(" ")
    sets = _category_sets(fields)
    return tuple(
        Split(feature, left, right, categories=sets[int(threshold)])
        if decision & IS_CATEGORICAL
        else Split(
            feature,
            left,
            right,
            threshold=float(threshold),
            missing=decision >> 2,
            is_missing_left=bool(decision & IS_MISSING_LEFT),
        )
        for feature, decision, left, right, threshold in zip(
            features, decisions, lefts, rights, thresholds, strict=True
        )
    )


def _category_sets(fields: Mapping[str, str]) -> list[tuple[int, ...]]:
    if not one(fields, "num_cat"):
        return []
    bounds = ints(fields["cat_boundaries"], "cat_boundaries")[1:-1]
    words = ints(fields["cat_threshold"], "cat_threshold")
    return [tuple(part.tolist()) for part in np.split(words, bounds)]


def fields_of(lines: Sequence[str], where: str) -> dict[str, str]:
    """Return `key=value` lines as a mapping; a line without `=` is a key with no value.

    Raises ValueError for a key that is there twice.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            continue
        key, _, value = line.partition("=")
        if key in fields:
            raise ValueError(f"{where} has {key[:40]!r} twice")
        fields[key] = value
    return fields


def required(fields: Mapping[str, str], key: str) -> str:
    """Return the value of a key. Raises ValueError when it is absent or empty."""
    if not fields.get(key):
        raise ValueError(f"it lacks {key}")
    return fields[key]


def one(fields: Mapping[str, str], key: str, absent: int | None = None) -> int:
    """Return the integer of a key, `absent` when it is not there. Raises ValueError."""
    if absent is not None and key not in fields:
        return absent
    return int(ints(required(fields, key), key)[0])


def ints(text: str, key: str) -> Ints:
    """Return the integers of a list. Raises ValueError, naming `key`, for anything else."""
    return np.array([int(_matched(_INT, each, key)) for each in text.split(" ")], dtype=np.int64)


def reals(text: str, key: str) -> Reals:
    """Return the finite numbers of a list. Raises ValueError, naming `key`, for anything else."""
    values = np.array([float(_matched(_REAL, each, key)) for each in text.split(" ")])
    if not np.isfinite(values).all():
        raise ValueError(f"{key} holds a value beyond float64")
    return values


def _matched(pattern: re.Pattern[str], token: str, key: str) -> str:
    if pattern.fullmatch(token) is None:
        raise ValueError(f"{key} holds {token[:40]!r}, which is no finite number of its kind")
    return token
