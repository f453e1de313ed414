"""The model text check: what LightGBM writes passes, what would crash or hang it does not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.adapters.model_text import FILE
from services.ranker.adapters.model_text_check import check_model_file, check_model_text
from tests.broken_bundles import replace_entry, replace_list, resized

NAMES = ("first", "second", "third")
Edit = Callable[[str], str]


def trained(categorical: tuple[int, ...] = (), **parameters: Any) -> str:
    random = np.random.default_rng(5)
    features = random.random((500, len(NAMES)))
    features[:, 1] = random.integers(0, 40, 500)
    features[random.random(500) < 0.2, 0] = np.nan
    labels = (features[:, 1] % 3 == 0) + random.random(500) / 10
    data = lgb.Dataset(
        features, labels, feature_name=list(NAMES), categorical_feature=list(categorical)
    )
    common = {"objective": "regression", "num_leaves": 8, "num_threads": 1, "verbosity": -1}
    return str(lgb.train({**common, **parameters}, data, 4).model_to_string())


@pytest.fixture(scope="module")
def sound() -> str:
    return trained()


@pytest.fixture(scope="module")
def categorical() -> str:
    text = trained((1,), min_data_per_group=1, cat_smooth=0.1)
    assert "cat_boundaries=" in text
    return text


@pytest.fixture(scope="module")
def linear() -> str:
    return trained(linear_tree=True)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"num_leaves": 2},
        {"boosting": "dart"},
        {"linear_tree": True},
        {"linear_tree": True, "num_leaves": 2},
        {"linear_tree": True, "min_data_in_leaf": 400},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"zero_as_missing": True},
        {"monotone_constraints": [1, 0, 0]},
    ],
    ids=str,
)
def test_what_lightgbm_trains_is_sound(parameters: dict[str, Any]) -> None:
    check_model_text(trained(**parameters), NAMES)


def test_trees_of_one_leaf_are_sound() -> None:
    text = trained(min_data_in_leaf=400)

    assert "num_leaves=1\n" in text
    check_model_text(text, NAMES)


def test_categorical_splits_are_sound(categorical: str) -> None:
    check_model_text(categorical, NAMES)


def test_a_threshold_that_parts_missing_values_from_all_others_is_sound(sound: str) -> None:
    check_model_text(resized(replace_entry("threshold", 0, "inf")(sound)), NAMES)


def test_a_chain_of_many_leaves_is_sound() -> None:
    check_model_text(one_tree(chain(5_000)), ("only",))


TREE_FAULTS: dict[str, tuple[Edit, str]] = {
    "child of 10^9": (replace_entry("left_child", 0, "1000000000"), "left_child holds 1000000000"),
    "child of -10^9": (replace_entry("right_child", 2, "-1000000000"), "right_child holds -1000"),
    "root as its own child": (replace_entry("left_child", 0, "0"), "reached 2 times"),
    "leaf lost": (replace_entry("left_child", 6, "-1"), "reached [02] times|reached 2 times"),
    "feature out of range": (replace_entry("split_feature", 0, "3"), "schema has 3 features"),
    "feature below 0": (replace_entry("split_feature", 0, "-1"), "schema has 3 features"),
    "NaN leaf": (replace_entry("leaf_value", 0, "nan"), "leaf_value holds 'nan'"),
    "infinite leaf": (replace_entry("leaf_value", 0, "-inf"), "leaf_value holds '-inf'"),
    "leaf beyond float64": (replace_entry("leaf_value", 0, "1e999"), "beyond float64"),
    "NaN threshold": (replace_entry("threshold", 0, "nan"), "threshold holds 'nan'"),
    "threshold -inf": (replace_entry("threshold", 0, "-inf"), "threshold holds '-inf'"),
    "word": (replace_entry("threshold", 0, "1_000"), "threshold holds '1_000'"),
    "foreign digit": (replace_entry("leaf_count", 0, "٣"), "leaf_count holds '٣'"),
    "two spaces": (replace_entry("threshold", 0, ""), "threshold holds ''"),
    "unknown decision": (replace_entry("decision_type", 0, "14"), "decision_type"),
    "decision of a category": (replace_entry("decision_type", 0, "1"), "categorical splits"),
    "short list": (replace_list("left_child", "1 2"), "left_child has 2 entries"),
    "long list": (replace_list("leaf_value", " ".join(["0.1"] * 9)), "leaf_value has 9 entries"),
    "empty list": (replace_list("decision_type", ""), "lacks decision_type"),
    "huge num_leaves": (replace_list("num_leaves", "2000000000"), "num_leaves is 2000000000"),
    "no leaves": (replace_list("num_leaves", "0"), "num_leaves is 0"),
    "fewer leaves": (replace_list("num_leaves", "7"), "entries; 7 leaves need"),
    "categories without any": (replace_list("num_cat", "1"), "lacks cat_boundaries"),
    "huge num_cat": (replace_list("num_cat", "1000000000"), "num_cat is 1000000000"),
    "linear without functions": (replace_list("is_linear", "1"), "lacks leaf_const"),
    "half linear": (replace_list("is_linear", "2"), "is_linear is 2"),
    "function of no linear tree": (
        lambda text: text.replace("\nshrinkage=", "\nleaf_coeff=", 1),
        "'leaf_coeff' is no key",
    ),
    "doubled key": (lambda text: text.replace("\nnum_cat=", "\nnum_leaves=", 1), "twice"),
    "other number": (lambda text: text.replace("\nTree=0\n", "\nTree=7\n", 1), "tree_sizes"),
}


@pytest.mark.parametrize("fault", TREE_FAULTS)
def test_a_broken_tree_is_refused_by_its_number(fault: str, sound: str) -> None:
    edit, reason = TREE_FAULTS[fault]
    broken = resized(edit(sound))
    assert broken != sound

    with pytest.raises(ValueError, match=rf"^{FILE}: Tree=0: .*({reason})"):
        check_model_text(broken, NAMES)


LINEAR_FAULTS: dict[str, tuple[Edit, str]] = {
    "no constants": (replace_list("leaf_const", ""), "lacks leaf_const"),
    "a constant less": (replace_list("leaf_const", "1 2 3"), "leaf_const has 3 entries"),
    "NaN constant": (replace_entry("leaf_const", 0, "nan"), "leaf_const holds 'nan'"),
    "great constant": (replace_entry("leaf_const", 0, "1e7"), "leaves add up to 1e[+]07"),
    "constant beyond float64": (replace_entry("leaf_const", 0, "1e999"), "beyond float64"),
    "no counts": (replace_list("num_features", ""), "lacks num_features"),
    "a count more": (replace_list("num_features", " ".join(["0"] * 9)), "num_features has 9"),
    "negative count": (replace_entry("num_features", 0, "-1"), "num_features is not 0 to 3"),
    "count of 10^9": (replace_entry("num_features", 0, "1000000000"), "is not 0 to 3"),
    "a feature counted less": (replace_entry("num_features", 0, "0"), "num_features asks for"),
    "no features": (replace_list("leaf_features", ""), "lacks leaf_features"),
    "a feature less": (
        lambda text: re.sub("leaf_features=[0-9]+ ", "leaf_features=", text, count=1),
        "leaf_features has",
    ),
    "feature out of range": (replace_entry("leaf_features", 0, "3"), "schema's 3 features"),
    "feature of 10^18": (replace_entry("leaf_features", 0, "9" * 19), "leaf_features holds"),
    "negative feature": (replace_entry("leaf_features", 0, "-1"), "schema's 3 features"),
    "half a feature": (replace_entry("leaf_features", 0, "0.5"), "leaf_features holds '0.5'"),
    "no coefficients": (replace_list("leaf_coeff", ""), "lacks leaf_coeff"),
    "a coefficient more": (
        lambda text: text.replace("leaf_coeff=", "leaf_coeff=1 ", 1),
        "leaf_coeff has",
    ),
    "NaN coefficient": (replace_entry("leaf_coeff", 0, "nan"), "leaf_coeff holds 'nan'"),
    "infinite coefficient": (replace_entry("leaf_coeff", 0, "inf"), "leaf_coeff holds 'inf'"),
    "another leaf's feature": (
        lambda text: re.sub("leaf_features=([0-9]+) ", r"leaf_features=\1  ", text, count=1),
        "leaf_features is not spaced",
    ),
    "tabs": (lambda text: text.replace("leaf_coeff=", "leaf_coeff=\t", 1), "is not spaced"),
    "a list twice": (lambda text: text.replace("\nnum_features=", "\nleaf_const=", 1), "twice"),
    "not linear after all": (replace_list("is_linear", "0"), "'leaf_const' is no key"),
}


@pytest.mark.parametrize("fault", LINEAR_FAULTS)
def test_a_broken_linear_tree_is_refused(fault: str, linear: str) -> None:
    edit, reason = LINEAR_FAULTS[fault]
    start = linear.index("\nTree=3")  # the first one's functions are constant
    broken = resized(linear[:start] + edit(linear[start:]))
    assert broken != linear

    with pytest.raises(ValueError, match=rf"^{FILE}: .*({reason})"):
        check_model_text(broken, NAMES)


FILE_FAULTS: dict[str, tuple[Edit, str]] = {
    "other version": (lambda text: text.replace("version=v4", "version=v9"), "version is 'v9'"),
    "two classes": (replace_list("num_class", "2"), "num_class is '2'"),
    "two trees an iteration": (replace_list("num_tree_per_iteration", "2"), "per_iteration"),
    "more features": (replace_list("max_feature_idx", "99"), "max_feature_idx is '99'"),
    "other names": (replace_list("feature_names", "third second first"), "feature_names"),
    "tree sizes doubled": (lambda text: re.sub("tree_sizes=.*", "tree_sizes=9 9", text), "Tree=0"),
    "tree sizes of 10^17": (replace_entry("tree_sizes", 1, "1" + 17 * "0"), "Tree=1"),
    "tree sizes negative": (replace_entry("tree_sizes", 0, "-5"), "Tree=0"),
    "tree too few": (lambda text: re.sub("(tree_sizes=.*) [0-9]+", r"\1", text), "end of trees"),
    "no sizes": (lambda text: re.sub("tree_sizes=.*", "tree_sizes=", text), "0 trees"),
    "many trees": (replace_list("tree_sizes", " ".join(["1"] * 10_001)), "10001 trees"),
    "unknown key": (lambda text: text.replace("label_index", "evil"), "label_index"),
    "half a file": (lambda text: text[: len(text) // 2], "Tree="),
    "no tail": (lambda text: text[: text.index("end of trees")], "end of trees"),
    "cut tail": (lambda text: text[: text.index("end of parameters")], "ends before"),
    "cut at the last line": (lambda text: text[: text.index("pandas_cat") + 9], "ends before"),
    "empty": (lambda _text: "", "header lacks"),
    "great leaves": (
        lambda text: resized(replace_entry("leaf_value", 0, "1e7")(text)),
        "leaves add up to 1e[+]07",
    ),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_broken_file_is_refused(fault: str, sound: str) -> None:
    edit, reason = FILE_FAULTS[fault]
    broken = edit(sound)
    assert broken != sound

    with pytest.raises(ValueError, match=rf"^{FILE}: .*({reason})"):
        check_model_text(broken, NAMES)


CATEGORY_FAULTS: dict[str, Edit] = {
    "bounds beyond": replace_entry("cat_boundaries", -1, "1000000000"),
    "bounds below": replace_entry("cat_boundaries", 0, "-1"),
    "no words": replace_list("cat_threshold", ""),
    "a word too large": replace_entry("cat_threshold", 0, "4294967296"),
    "another category": replace_entry("threshold", 0, "1"),
    "half a category": replace_entry("threshold", 0, "0.5"),
    "one category less": replace_list("num_cat", "0"),
}


@pytest.mark.parametrize("fault", CATEGORY_FAULTS)
def test_broken_categories_are_refused(fault: str, categorical: str) -> None:
    broken = resized(CATEGORY_FAULTS[fault](categorical))
    assert broken != categorical

    with pytest.raises(ValueError, match=rf"^{FILE}: Tree=0: "):
        check_model_text(broken, NAMES)


def test_a_cycle_apart_from_the_root_is_refused() -> None:
    left, right = chain(4)
    left[1], left[2] = 2, 1  # nodes 1 and 2 lead to each other; the root to leaves alone
    left[0], right[0], right[1], right[2] = -1, -2, -3, -4

    with pytest.raises(ValueError, match=r"Tree=0: its children form a cycle"):
        check_model_text(one_tree((left, right)), ("only",))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_edit_of_children_passes_and_leaves_a_tree(data: st.DataObject) -> None:
    """Whatever passes is a tree: following it from the root ends, with every leaf found once."""
    n_nodes = data.draw(st.integers(1, 5))
    child = st.integers(-n_nodes - 2, n_nodes)
    sides = [data.draw(st.lists(child, min_size=n_nodes, max_size=n_nodes)) for _ in range(2)]
    try:
        check_model_text(one_tree((sides[0], sides[1])), ("only",))
    except ValueError:
        return

    found, open_nodes = [], [0]
    for _ in range(2 * n_nodes + 1):
        node = open_nodes.pop()
        if node < 0:
            found.append(~node)
        else:
            open_nodes += [sides[0][node], sides[1][node]]
    assert not open_nodes
    assert sorted(found) == list(range(n_nodes + 1))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"tree\nversion=v4\n\xff")

    with pytest.raises(ValueError, match=f"{FILE}: byte 16 is not ASCII"):
        check_model_file(tmp_path, NAMES)


def chain(n_leaves: int) -> tuple[list[int], list[int]]:
    """Return left and right children of a tree whose every left child is a leaf."""
    nodes = n_leaves - 1
    left = [~node for node in range(nodes)]
    return left, [*range(1, nodes), ~nodes]


def one_tree(children: tuple[list[int], list[int]]) -> str:
    """Return a model text of one tree over one feature."""
    nodes = len(children[0])

    def line(key: str, value: object, count: int) -> str:
        return f"{key}={' '.join([str(value)] * count)}"

    tree = [
        "Tree=0",
        f"num_leaves={nodes + 1}",
        "num_cat=0",
        *(line(key, 0, nodes) for key in ("split_feature", "split_gain", "threshold")),
        line("decision_type", 2, nodes),
        f"left_child={' '.join(map(str, children[0]))}",
        f"right_child={' '.join(map(str, children[1]))}",
        *(line(key, 1, nodes + 1) for key in ("leaf_value", "leaf_weight", "leaf_count")),
        *(line(key, 1, nodes) for key in ("internal_value", "internal_weight", "internal_count")),
        "is_linear=0\nshrinkage=1\n\n\n",
    ]
    header = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=0\nobjective=lambdarank\nfeature_names=only\nfeature_infos=[0:1]\n"
        "tree_sizes=0\n\n"
    )
    tail = "end of trees\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"
    return resized(header + "\n".join(tree) + tail)
