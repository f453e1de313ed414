"""The ranker's training: candidates as of each cut, labelled by what came after it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from pipeline.cuts import Cut
from pipeline.event_log import LogError
from pipeline.offline_mesh import OfflineMesh, ranking_query, targets_by_user
from services.ranker.domain.features import assemble, feature_names

MIN_HISTORY = 5
"""Plays before the cut that a user needs to be trained or tested on."""
MAX_GROUPS = 20_000
"""Users of one cut at most; more are drawn with the seed."""
NEGATIVES = 100
"""Candidates without a play kept of each group, drawn with the seed: memory, not quality, is what
more would cost."""
PATIENCE = 40
"""Trees without a better NDCG@10 on the newest training cut before training stops."""
PARAMETERS = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "lambdarank_truncation_level": 20,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}
"""Regularised, as logs of a few thousand users ask for."""

Group = tuple[NDArray[np.float32], NDArray[np.int8]]
"""Features [candidates, features] and labels [candidates] of one user."""


@dataclass(frozen=True, slots=True)
class ForestSize:
    """How large a model may grow.

    Small: with 31 leaves and 300 trees NDCG@10 on 30Music's validation week fell from 0.047 to
    0.039, below merge order, and on MovieLens-1M 300 trees of 31 leaves ranked no better than 150
    of 15 (0.182).
    """

    leaves: int = 15
    least_trees: int = 60
    """Early stopping on a few hundred users is noise below this."""
    most_trees: int = 200


DEFAULT_SIZE = ForestSize()


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
    mesh: OfflineMesh, users: Iterable[tuple[int, NDArray[np.uint32]]], *, seed: int
) -> Iterator[Group]:
    """Yield the group of every user of whose candidates one was played."""
    tables = mesh.item_tables()
    random = np.random.default_rng(seed)
    for key, targets in users:
        history = mesh.history(key)
        candidates = mesh.candidates(history, mesh.ask_sources(history))
        played = np.isin(candidates.rows, targets)
        if played.any():
            features = assemble(ranking_query(candidates, history), tables)
            kept = _sample(played, random)
            yield features[kept], played[kept].astype(np.int8)


def _sample(played: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the places of every play and of some candidates without one, in list order."""
    others = np.flatnonzero(~played)
    drawn = random.choice(others, min(NEGATIVES, len(others)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(played), drawn]))


def train_ranker(
    cuts: Sequence[Sequence[Group]], *, seed: int, size: ForestSize = DEFAULT_SIZE
) -> str:
    """Return the text of a LambdaMART model (Burges, MSR-TR-2010-82); same input, same text.

    `cuts` holds the groups of every training cut, newest first. The newest decides how many trees
    are worth growing on the others; then that many are grown on all of them. Raises LogError when
    there is nothing to learn from.
    """
    older = [group for cut in cuts[1:] for group in cut]
    newest = list(cuts[0])
    if not older or not newest:
        raise LogError(
            "no candidate of any user was played after a training cut: the log is too small or "
            "too short to train a ranker on"
        )
    parameters = {**PARAMETERS, "num_leaves": size.leaves, "seed": seed}
    judge = lgb.early_stopping(PATIENCE, verbose=False)
    stopped = lgb.train(
        parameters,
        _dataset(older),
        size.most_trees,
        valid_sets=[_dataset(newest)],
        callbacks=[judge],
    )
    trees = max(size.least_trees, stopped.best_iteration)
    booster = lgb.train(parameters, _dataset([*newest, *older]), trees)
    return str(booster.model_to_string())


def _dataset(groups: Sequence[Group]) -> lgb.Dataset:
    return lgb.Dataset(
        np.concatenate([features for features, _ in groups]),
        np.concatenate([labels for _, labels in groups]),
        group=[len(labels) for _, labels in groups],
        feature_name=list(feature_names()),
    )
