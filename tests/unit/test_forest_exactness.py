"""The forest kernel against LightGBM: equal to the last bit, for any model and any row.

RECMESH_FOREST_MODELS is how many models are trained, 50 by default. Of a night:
RECMESH_FOREST_MODELS=500 python -m pytest tests/unit/test_forest_exactness.py -o timeout=3600
"""

import os
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.ranker.adapters.model_text import read_trees
from services.ranker.adapters.model_text_check import check_model_text
from services.ranker.domain.forest import Forest, Tree
from tests.unit.forest_rows import Rows, rows_of, same_bits, walked

N_MODELS = int(os.environ.get("RECMESH_FOREST_MODELS", "50"))
SIZES = ("1", "2 to 32", "33 to 64", "more")
N_FEATURES = 6
NAMES = tuple(f"feature_{place}" for place in range(N_FEATURES))
CATEGORICAL = 4
"""The feature that may be one of categories."""
ROW_COUNTS = (0, 1, 63, 64, 65, 255, 256, 257, 500)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "regression": {"objective": "regression"},
    "binary": {"objective": "binary"},
    "lambdarank": {"objective": "lambdarank"},
    "poisson": {"objective": "poisson"},
}
BOOSTINGS: dict[str, dict[str, Any]] = {
    "gbdt": {},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "goss": {"data_sample_strategy": "goss", "learning_rate": 0.3},
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model comes about."""

    seed: int
    objective: str
    boosting: str
    n_leaves: int
    n_trees: int
    n_rows: int
    """Of the training data; many leaves need many."""
    has_categories: bool
    parameters: dict[str, Any]
    continued: int
    """Trees that a second training adds to the first one's."""
    saved: int | None
    """Trees that are saved; None: all."""


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    n_leaves = draw(st.sampled_from((2, 3, 7, 31, 32, 33, 63, 64, 65, 100, 200)))
    return Recipe(
        seed=draw(st.integers(0, 2**31 - 1)),
        objective=draw(st.sampled_from(sorted(OBJECTIVES))),
        boosting=draw(st.sampled_from(sorted(BOOSTINGS))),
        n_leaves=n_leaves,
        n_trees=draw(st.integers(1, 30 if n_leaves < 65 else 8)),
        n_rows=max(300, 10 * n_leaves),
        has_categories=draw(st.booleans()),
        parameters={
            "use_missing": draw(st.sampled_from((True, True, True, False))),
            "zero_as_missing": draw(st.sampled_from((False, False, True))),
            "extra_trees": draw(st.booleans()),
            "min_data_in_leaf": draw(st.sampled_from((1, 1, 1, 3, 3, 20, 20, 10_000))),
            "max_cat_to_onehot": draw(st.sampled_from((1, 4, 64))),
            "max_bin": draw(st.sampled_from((3, 63, 255))),
            "feature_fraction": draw(st.sampled_from((0.5, 1.0))),
        },
        continued=draw(st.sampled_from((0, 0, 4))),
        saved=draw(st.sampled_from((None, None, 1, 3))),
    )


def drawn_data(recipe: Recipe) -> lgb.Dataset:
    random = np.random.default_rng(recipe.seed)
    features = random.normal(size=(recipe.n_rows, N_FEATURES))
    features[:, 1] = np.round(features[:, 1] * 3)  # many zeros
    features[:, 2] *= np.float64(10.0) ** random.integers(-36, 36)
    features[:, 3] = np.where(random.random(recipe.n_rows) < 0.6, 0.0, features[:, 3])
    features[:, CATEGORICAL] = random.integers(0, 90, recipe.n_rows)
    features[random.random(features.shape) < random.choice((0.0, 0.1, 0.3, 0.5))] = np.nan
    signal = np.nan_to_num(features[:, 0]) + np.isnan(features[:, 3]) + features[:, 1] % 2
    signal = np.nan_to_num(signal) + (np.nan_to_num(features[:, CATEGORICAL]) % 3 == 0)
    noisy = signal + random.normal(size=recipe.n_rows) / 2
    is_graded = recipe.objective == "regression"
    return lgb.Dataset(
        features,
        noisy if is_graded else (noisy > np.median(noisy)).astype(float),
        group=[recipe.n_rows // 10] * 10 if recipe.objective == "lambdarank" else None,
        feature_name=list(NAMES),
        categorical_feature=[CATEGORICAL] if recipe.has_categories else [],
        free_raw_data=False,
    )


def trained(recipe: Recipe) -> lgb.Booster:
    parameters = {
        "num_leaves": recipe.n_leaves,
        "num_threads": 1,
        "verbosity": -1,
        "seed": recipe.seed,
        "min_data_per_group": 1,
        "cat_smooth": 0.1,
        **OBJECTIVES[recipe.objective],
        **BOOSTINGS[recipe.boosting],
        **recipe.parameters,
    }
    booster = lgb.train(parameters, drawn_data(recipe), recipe.n_trees)
    if recipe.continued:
        more = {**parameters, "seed": recipe.seed + 1, "learning_rate": 0.05}
        booster = lgb.train(more, drawn_data(recipe), recipe.continued, init_model=booster)
    return booster


def raw_scores(booster: lgb.Booster, rows: Rows, trees: int | None = None) -> NDArray[np.float64]:
    scores = booster.predict(rows, raw_score=True, num_threads=1, num_iteration=trees)
    return np.asarray(scores, dtype=np.float64)


@settings(
    max_examples=N_MODELS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(recipe=recipes())
def test_scores_are_lightgbms_to_the_last_bit(recipe: Recipe) -> None:
    try:
        booster = trained(recipe)
    except lgb.basic.LightGBMError:  # some settings together fail a check of LightGBM's own
        reject()
    text = booster.model_to_string(num_iteration=recipe.saved)
    check_model_text(text, NAMES)
    trees = read_trees(text)
    forest, stored = Forest.of(trees), lgb.Booster(model_str=text)
    note_what_was_seen(trees)

    for place, count in enumerate(ROW_COUNTS):
        random = np.random.default_rng([recipe.seed, place])
        used = [split.threshold for tree in trees for split in tree.splits]
        dtype = (np.float32, np.float64)[place % 2 ^ recipe.seed % 2]
        rows = rows_of(random, count, N_FEATURES, used, dtype)
        if random.random() < 0.5:
            rows = np.asfortranarray(rows)
        scores = forest.raw_scores(rows)
        if not count:
            assert len(scores) == 0
            continue
        assert same_bits(scores, raw_scores(stored, rows))
        if recipe.saved is not None:
            assert same_bits(scores, raw_scores(booster, rows, recipe.saved))
    few = rows[:20]
    assert same_bits(forest.raw_scores(few), walked(trees, few))


def note_what_was_seen(trees: tuple[Tree, ...]) -> None:
    """Tell `pytest --hypothesis-show-statistics` what the models had."""
    splits = [split for tree in trees for split in tree.splits]
    most = max(len(tree.leaf_values) for tree in trees)
    event(f"most leaves: {SIZES[bisect_left((1, 32, 64), most)]}")
    for missing in {split.missing for split in splits if split.categories is None}:
        event(f"missing type {missing}")
    for is_left in {split.is_missing_left for split in splits if split.missing}:
        event(f"missing goes {'left' if is_left else 'right'}")
    if any(split.categories is not None for split in splits):
        event("categories")


@pytest.mark.parametrize("n_leaves", [31, 63])
def test_a_large_ranker_is_equal_on_float32_and_float64(n_leaves: int) -> None:
    recipe = Recipe(
        seed=n_leaves,
        objective="lambdarank",
        boosting="gbdt",
        n_leaves=n_leaves,
        n_trees=100,
        n_rows=2000,
        has_categories=False,
        parameters={"min_data_in_leaf": 5},
        continued=0,
        saved=None,
    )
    booster = trained(recipe)
    trees = read_trees(booster.model_to_string())
    used = [split.threshold for tree in trees for split in tree.splits]

    for dtype in (np.float32, np.float64):
        rows = rows_of(np.random.default_rng(1), 500, N_FEATURES, used, dtype)
        assert same_bits(Forest.of(trees).raw_scores(rows), raw_scores(booster, rows))
