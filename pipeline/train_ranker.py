"""The ranker's training: candidates as of each cut, labelled by what came after it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from pipeline.cuts import Cut
from pipeline.event_log import LogError
from pipeline.offline_mesh import OfflineMesh, ranking_query, targets_by_user
from pipeline.recipe import DEFAULT, ForestSettings, Recipe
from services.ranker.domain.features import FEATURE_GROUPS, assemble, feature_names

MIN_HISTORY = 5
"""Plays before the cut that a user needs to be trained or tested on."""
MAX_GROUPS = 20_000
"""Users of one cut at most; more are drawn with the seed."""
PATIENCE = 40
"""Trees without a better NDCG@10 on the newest training cut before training stops."""
PARAMETERS = {
    "metric": "ndcg",
    "eval_at": [10],
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}

Group = tuple[NDArray[np.float32], NDArray[np.int8]]
"""Features [candidates, features] and labels [candidates] of one user."""


def users_of(
    mesh: OfflineMesh, cut: Cut, user_keys: NDArray[np.uint64], limit: int, seed: int
) -> list[tuple[int, NDArray[np.uint32]]]:
    """Return (user key, new items played after the cut) of the cut's users, in user order.

    New: not played before it. Users with a shorter history than `MIN_HISTORY` and those without a
    new item are left out; beyond `limit` users a seeded sample stands for all.
    """
    eligible = []
    for user, targets in targets_by_user(cut.after.users, cut.after.rows).items():
        key = int(user_keys[user])
        played, _ = mesh.tables.histories.of(key)
        new = np.setdiff1d(targets, played)
        if len(played) >= MIN_HISTORY and len(new):
            eligible.append((key, new))
    if len(eligible) <= limit:
        return eligible
    drawn = np.random.default_rng(seed).choice(len(eligible), limit, replace=False)
    return [eligible[place] for place in sorted(drawn)]


def collect_groups(
    mesh: OfflineMesh,
    users: Iterable[tuple[int, NDArray[np.uint32]]],
    *,
    seed: int,
    recipe: Recipe = DEFAULT,
) -> Iterator[Group]:
    """Yield the group of every user of whose candidates one was played.

    In a share of the groups (`Recipe.source_dropout`) one source is left out.
    """
    tables = mesh.item_tables()
    random = np.random.default_rng(seed)
    for key, targets in users:
        history = mesh.history(key)
        answers = list(mesh.ask_sources(history))
        if len(answers) > 1 and random.random() < recipe.source_dropout:
            del answers[random.integers(len(answers))]
        candidates = mesh.candidates(history, tuple(answers))
        played = np.isin(candidates.rows, targets)
        if played.any():
            features = assemble(ranking_query(candidates, history), tables)
            kept = _sample(played, recipe, random)
            yield features[kept], played[kept].astype(np.int8)


def _sample(
    played: NDArray[np.bool_], recipe: Recipe, random: np.random.Generator
) -> NDArray[np.intp]:
    """Return the places of every play and of some candidates without one, in list order.

    Drawn alike from all of them: of a list whose head is kept and whose rest is thinned out, a
    model learns that a low place is good.
    """
    others = np.flatnonzero(~played)
    drawn = random.choice(others, min(recipe.negatives, len(others)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(played), drawn]))


@dataclass(frozen=True, slots=True)
class Ranker:
    """A trained ranker, and how many trees it was found to need."""

    model_text: str
    judged: "Judged"


def train_ranker(cuts: Sequence[Sequence[Group]], *, seed: int, recipe: Recipe = DEFAULT) -> Ranker:
    """Return a LambdaMART model (Burges, MSR-TR-2010-82), or one of the recipe's other objective.

    Same input, same text. `cuts` holds the groups of every training cut, newest first. The newest
    decides how many trees are worth growing on the others; then that many are grown on all of
    them. Raises LogError when there is nothing to learn from.
    """
    older, newest = older_and_newest(cuts)
    parameters = parameters_of(recipe.forest, seed)
    learnt = dataset(older, recipe, parameters)
    judge = dataset(newest, recipe, parameters, binned_as=learnt)
    judged = grow_and_judge(learnt, judge, recipe.forest, parameters)
    whole = dataset([*newest, *older], recipe, parameters)
    return Ranker(str(lgb.train(parameters, whole, judged.trees).model_to_string()), judged)


def older_and_newest(cuts: Sequence[Sequence[Group]]) -> tuple[list[Group], list[Group]]:
    """Return the groups of all cuts but the newest, and of that. Raises LogError without any."""
    older = [group for cut in cuts[1:] for group in cut]
    newest = list(cuts[0])
    if not older or not newest:
        raise LogError(
            "no candidate of any user was played after a training cut: the log is too small or "
            "too short to train a ranker on"
        )
    return older, newest


@dataclass(frozen=True, slots=True)
class Judged:
    """What the newest training cut says of a forest that was grown on the older ones."""

    trees: int
    """As many as are worth growing."""
    curve: tuple[float, ...]
    """LightGBM's NDCG@10 of its groups with 1, 2, ... trees, averaged over users, as far as they
    were grown."""

    @property
    def ndcg_10(self) -> float:
        """That of `trees` trees."""
        return self.curve[self.trees - 1]


def grow_and_judge(
    older: lgb.Dataset, newest: lgb.Dataset, forest: ForestSettings, parameters: Mapping[str, Any]
) -> Judged:
    """Grow a forest on `older` until `newest` has not been ranked better for `PATIENCE` trees."""
    booster = lgb.Booster(dict(parameters), older)
    booster.add_valid(newest, "newest")
    curve: list[float] = []

    def grow(trees: int) -> None:
        while len(curve) < trees:
            booster.update()
            curve.append(float(booster.eval_valid()[0][2]))

    def best() -> int:
        return int(np.argmax(curve)) + 1

    grow(1)
    while len(curve) < forest.most_trees and len(curve) - best() < PATIENCE:
        grow(len(curve) + 1)
    trees = max(forest.least_trees, best())
    grow(trees)
    return Judged(trees, tuple(curve))


def parameters_of(forest: ForestSettings, seed: int) -> dict[str, Any]:
    """Return LightGBM's parameters."""
    return {
        **PARAMETERS,
        **_monotone(forest),
        "objective": forest.objective,
        "num_leaves": forest.leaves,
        "learning_rate": forest.learning_rate,
        "min_data_in_leaf": forest.min_data_in_leaf,
        "lambda_l2": forest.lambda_l2,
        "feature_fraction": forest.feature_fraction,
        "lambdarank_truncation_level": forest.truncation,
        "seed": seed,
    }


def _monotone(forest: ForestSettings) -> dict[str, Any]:
    """Return which columns may only raise the score; nothing where none is."""
    if not forest.monotone:
        return {}
    return {
        "monotone_constraints": [int(name in forest.monotone) for name in feature_names()],
        "monotone_constraints_method": forest.monotone_method,
    }


def dataset(
    groups: Sequence[Group],
    recipe: Recipe,
    parameters: Mapping[str, Any],
    binned_as: lgb.Dataset | None = None,
) -> lgb.Dataset:
    """Return the groups for LightGBM; features that the recipe leaves out are all missing.

    What is grown on one dataset is judged on another with the same bins.
    """
    features = np.concatenate([features for features, _ in groups])
    features[:, _left_out(recipe)] = np.nan
    return lgb.Dataset(
        features,
        np.concatenate([labels for _, labels in groups]),
        reference=binned_as,
        group=[len(labels) for _, labels in groups],
        feature_name=list(feature_names()),
        params=dict(parameters),
    ).construct()


def _left_out(recipe: Recipe) -> NDArray[np.bool_]:
    """Return which columns no tree may use."""
    return np.array([group.name not in recipe.features for group in FEATURE_GROUPS]).repeat(
        [len(group.features) for group in FEATURE_GROUPS]
    )
