"""What a recipe leaves out of the ranker's training, and what it keeps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.offline_mesh import OfflineMesh, ranking_query
from pipeline.recipe import GROUPS, MONOTONE_METHODS, OBJECTIVES, ForestSettings, Recipe
from pipeline.train_ranker import Group, collect_groups, parameters_of, train_ranker
from services.ranker.adapters.forest_model import ForestModel
from services.ranker.adapters.model_text import read_trees
from services.ranker.adapters.model_text_check import check_model_text
from services.ranker.domain.features import FEATURE_GROUPS, SOURCES, assemble, feature_names
from services.ranker.domain.forest import Forest
from tests.small_bundle import small_tables

SEED = 11
ALL = 2_000
"""More candidates than there are."""
FEW_TREES = ForestSettings(
    leaves=4, least_trees=8, most_trees=8, min_data_in_leaf=5, feature_fraction=1.0
)
TARGETS = np.arange(0, 60, 4, dtype=np.uint32)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> OfflineMesh:
    return OfflineMesh.over(small_tables(), tmp_path_factory.mktemp("tables"))


def groups_of(
    mesh: OfflineMesh, recipe: Recipe, *, times: int = 1, seed: int = SEED
) -> list[Group]:
    """Return a group for every user of the small log, some of whose candidates were played."""
    users = [(key, TARGETS) for key in mesh.tables.histories.user_keys.tolist()] * times
    return list(collect_groups(mesh, users, seed=seed, recipe=recipe))


def silent_sources(features: NDArray[np.float32]) -> set[str]:
    ranks = [features[:, feature_names().index(f"{source}_rank")] for source in SOURCES]
    return {source for source, column in zip(SOURCES, ranks, strict=True) if np.isnan(column).all()}


def columns_of(group: str) -> list[int]:
    held = [one.name for one in FEATURE_GROUPS for _ in one.features]
    return [place for place, name in enumerate(held) if name == group]


def learnable(columns: list[int]) -> list[Group]:
    """Return groups whose plays can be told by one of `columns` alone: all else is noise."""
    random = np.random.default_rng(SEED)
    groups = []
    for _ in range(30):
        features = random.random((40, len(feature_names())), dtype=np.float32)
        groups.append((features, (features[:, columns[0]] > 0.8).astype(np.int8)))
    return groups


def gains(model_text: str) -> NDArray[np.float64]:
    return lgb.Booster(model_str=model_text).feature_importance("gain")


@pytest.mark.parametrize("group", GROUPS)
def test_no_tree_uses_a_group_of_features_that_the_recipe_leaves_out(group: str) -> None:
    columns = columns_of(group)
    groups = learnable(columns)
    recipe = Recipe(forest=FEW_TREES)
    without = replace(recipe, features=tuple(name for name in GROUPS if name != group))

    with_it, left_out = (
        gains(train_ranker([groups[:10], groups[10:]], seed=SEED, recipe=one).model_text)
        for one in (recipe, without)
    )

    assert with_it[columns[0]] > 0.5 * with_it.sum()
    assert left_out.sum() > 0
    assert not left_out[columns].any()


def test_training_leaves_the_groups_as_they_were() -> None:
    groups = learnable(columns_of("link"))
    before = [features.tobytes() for features, _ in groups]

    train_ranker(
        [groups[:1], groups[1:2]], seed=SEED, recipe=Recipe(features=("user",), forest=FEW_TREES)
    )

    assert [features.tobytes() for features, _ in groups] == before


def test_a_forest_grows_as_the_recipe_says() -> None:
    groups = learnable(columns_of("vector"))
    forest = replace(FEW_TREES, leaves=3, least_trees=5, most_trees=5, learning_rate=0.2)

    ranker = train_ranker([groups[:10], groups[10:]], seed=SEED, recipe=Recipe(forest=forest))

    model = lgb.Booster(model_str=ranker.model_text)
    assert model.num_trees() == ranker.judged.trees == len(ranker.judged.curve) == 5
    assert max(tree["num_leaves"] for tree in model.dump_model()["tree_info"]) == 3
    assert {tree["shrinkage"] for tree in model.dump_model()["tree_info"]} == {0.2}
    said = parameters_of(replace(forest, truncation=7, lambda_l2=3.0), SEED)
    assert said["lambdarank_truncation_level"] == 7
    assert (said["lambda_l2"], said["min_data_in_leaf"], said["feature_fraction"]) == (3.0, 5, 1.0)


NOT_MONOTONE = "link_decay_3"
"""A feature whose plays lie in the middle of its range, so that free trees turn back."""
MORE_TREES = replace(FEW_TREES, leaves=12, least_trees=40, most_trees=40)


def scores_along(model_text: str, column: int) -> NDArray[np.float64]:
    """Return the scores of many rows [rows, values] as one column rises through its range."""
    random = np.random.default_rng(SEED)
    rows = random.random((200, len(feature_names())), dtype=np.float32)
    rows[random.random(rows.shape) < 0.2] = np.nan
    values = np.linspace(-0.1, 1.1, 60, dtype=np.float32)
    asked = np.repeat(rows, len(values), axis=0)
    asked[:, column] = np.tile(values, len(rows))
    scores = lgb.Booster(model_str=model_text).predict(asked, raw_score=True)
    return np.asarray(scores).reshape(len(rows), len(values))


def grown(groups: list[Group], forest: ForestSettings) -> str:
    cuts = [groups[:10], groups[10:]]
    return train_ranker(cuts, seed=SEED, recipe=Recipe(forest=forest)).model_text


def bent_groups(column: int) -> list[Group]:
    """Return groups whose plays have a middling value of `column`, and some noise."""
    random = np.random.default_rng(SEED)
    groups = []
    for _ in range(40):
        features = random.random((40, len(feature_names())), dtype=np.float32)
        features[random.random(features.shape) < 0.1] = np.nan
        near = np.abs(features[:, column] - 0.6) + 0.2 * features[:, 3] < 0.3
        groups.append((features, near.astype(np.int8)))
    return groups


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", MONOTONE_METHODS)
def test_a_monotone_feature_never_lowers_the_score(objective: str, method: str) -> None:
    column = feature_names().index(NOT_MONOTONE)
    groups = bent_groups(column)
    free = replace(MORE_TREES, objective=objective, monotone_method=method)
    bound = replace(free, monotone=("next_last", NOT_MONOTONE))

    fell, rose = (scores_along(grown(groups, one), column) for one in (free, bound))

    assert (np.diff(fell, axis=1) < 0).any(axis=1).mean() > 0.5
    assert (np.diff(rose, axis=1) >= 0).all()
    assert (rose[:, -1] > rose[:, 0]).mean() > 0.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_forest_of_any_settings_is_sound_and_the_kernel_scores_it_to_the_bit(
    objective: str,
) -> None:
    column = feature_names().index(NOT_MONOTONE)
    groups = bent_groups(column)
    forest = replace(MORE_TREES, objective=objective, monotone=(NOT_MONOTONE,))

    text = grown(groups, forest)

    assert f"\nobjective={objective}" in text
    assert "\nmonotone_constraints=" in text
    check_model_text(text, feature_names())
    packed = Forest.of(read_trees(text))
    rows = np.concatenate([features for features, _ in groups])
    theirs = lgb.Booster(model_str=text).predict(rows, raw_score=True)
    assert ForestModel(packed).raw_scores(rows).tobytes() == np.asarray(theirs).tobytes()


def test_xendcg_learns_the_same_again_and_another_forest_than_lambdarank() -> None:
    groups = learnable(columns_of("link"))
    texts = [
        grown(groups, replace(FEW_TREES, objective=objective))
        for objective in ("rank_xendcg", "rank_xendcg", "lambdarank")
    ]

    assert texts[0] == texts[1] != texts[2]
    assert gains(texts[0])[columns_of("link")[0]] > 0.5 * gains(texts[0]).sum()


def test_without_a_monotone_feature_lightgbm_is_told_of_none() -> None:
    told = parameters_of(FEW_TREES, SEED)
    bound = parameters_of(replace(FEW_TREES, monotone=("link_last",)), SEED)

    assert {name for name in bound if name not in told} == {
        "monotone_constraints",
        "monotone_constraints_method",
    }
    assert sum(bound["monotone_constraints"]) == 1
    assert bound["monotone_constraints"][feature_names().index("link_last")] == 1


@pytest.mark.parametrize("sources", [("similar",), ("next", "trending"), SOURCES])
def test_only_the_sources_of_the_tables_propose(sources: tuple[str, ...], tmp_path: Path) -> None:
    tables = small_tables()
    mesh = OfflineMesh.over(replace(tables, facts=replace(tables.facts, sources=sources)), tmp_path)
    history = mesh.history(int(tables.histories.user_keys[0]))

    answers = mesh.ask_sources(history)
    candidates = mesh.candidates(history, answers)

    assert [one.source for one in answers] == list(sources)
    assert set(candidates.columns) == set(sources)
    proposed = {row for one in answers for row in one.rows.tolist()}
    assert set(candidates.rows.tolist()) <= proposed
    groups = groups_of(mesh, Recipe(negatives=ALL, source_dropout=0))
    assert groups
    for features, _ in groups:
        assert silent_sources(features) == set(SOURCES) - set(sources)


def test_without_dropout_every_source_takes_part_in_every_group(mesh: OfflineMesh) -> None:
    groups = groups_of(mesh, Recipe(negatives=ALL, source_dropout=0))

    assert len(groups) == len(mesh.tables.histories.user_keys)
    assert [silent_sources(features) for features, _ in groups] == [set()] * len(groups)


def test_dropout_leaves_one_source_out_of_its_share_of_the_groups(mesh: OfflineMesh) -> None:
    groups = groups_of(mesh, Recipe(negatives=ALL, source_dropout=0.3), times=10)

    silent = [silent_sources(features) for features, _ in groups]
    assert len(groups) == 10 * len(mesh.tables.histories.user_keys)
    assert {len(one) for one in silent} == {0, 1}
    assert 0.25 < sum(map(len, silent)) / len(silent) < 0.35
    for source in SOURCES:
        assert 0.03 < sum(source in one for one in silent) / len(silent) < 0.1


def test_the_only_source_is_never_left_out(tmp_path: Path) -> None:
    tables = small_tables()
    alone = replace(tables, facts=replace(tables.facts, sources=("ann",)))

    groups = groups_of(OfflineMesh.over(alone, tmp_path), Recipe(source_dropout=0.5))

    assert groups
    assert all("ann" not in silent_sources(features) for features, _ in groups)


@pytest.mark.parametrize("recipe", [Recipe(source_dropout=0.5), Recipe(negatives=3)])
def test_the_seed_alone_decides_what_is_drawn(mesh: OfflineMesh, recipe: Recipe) -> None:
    first, again, other = (groups_of(mesh, recipe, seed=seed) for seed in (1, 1, 2))

    assert [one.tobytes() for one, _ in first] == [one.tobytes() for one, _ in again]
    assert [one.tobytes() for one, _ in first] != [one.tobytes() for one, _ in other]


def kept_places(mesh: OfflineMesh, recipe: Recipe) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the places in merge order of candidates without a play: the kept ones, and all."""
    keys = mesh.tables.histories.user_keys.tolist()
    for key, (kept, labels) in zip(keys, groups_of(mesh, recipe), strict=True):
        history = mesh.history(key)
        candidates = mesh.candidates(history, mesh.ask_sources(history))
        whole = assemble(ranking_query(candidates, history), mesh.item_tables())
        place_of = {row.tobytes(): place for place, row in enumerate(whole)}
        assert len(place_of) == len(whole)
        places = [place_of[row.tobytes()] for row in kept]
        assert places == sorted(places)
        is_played = np.isin(candidates.rows, TARGETS)
        assert is_played[places].tolist() == (labels == 1).tolist()
        plays = [place for place, label in zip(places, labels.tolist(), strict=True) if label]
        assert plays == np.flatnonzero(is_played).tolist()
        others = [place for place, label in zip(places, labels.tolist(), strict=True) if not label]
        every_other = np.flatnonzero(~is_played).tolist()
        yield others, every_other


@pytest.mark.parametrize("drawn", [1, 4, ALL])
def test_as_many_candidates_without_a_play_are_drawn_as_the_recipe_says(
    mesh: OfflineMesh, drawn: int
) -> None:
    recipe = Recipe(negatives=drawn, source_dropout=0)

    found = list(kept_places(mesh, recipe))

    assert len(found) == len(mesh.tables.histories.user_keys)
    for others, every_other in found:
        assert set(others) <= set(every_other)
        assert len(others) == min(drawn, len(every_other))
    if drawn < ALL:
        assert any(others != every_other[:drawn] for others, every_other in found)
