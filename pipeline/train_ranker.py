"""The ranker's training: candidates as of each cut, labelled by what came after it."""

from collections.abc import Iterator
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
TREES = 300
PARAMETERS = {
    "objective": "lambdarank",
    "num_leaves": 31,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "lambdarank_truncation_level": 20,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class Groups:
    """Training rows: candidates of many users, one group a user."""

    features: NDArray[np.float32]
    """float32 [rows, features]."""
    labels: NDArray[np.int8]
    """1 where the user played the candidate in the window after the cut."""
    sizes: NDArray[np.int32]
    """Rows of each group, in order."""


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
    mesh: OfflineMesh, users: list[tuple[int, NDArray[np.uint32]]], *, seed: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int8]]]:
    """Yield (features, labels) of each user's candidates, or no rows where none was played."""
    tables = mesh.item_tables()
    random = np.random.default_rng(seed)
    for key, targets in users:
        history = mesh.history(key)
        candidates = mesh.candidates(history, mesh.ask_sources(history))
        played = np.isin(candidates.rows, targets)
        features = assemble(ranking_query(candidates, history), tables)
        kept = _sample(played, random)
        yield features[kept], played[kept].astype(np.int8)


def _sample(played: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the places of every play and of some candidates without one, in list order."""
    if not played.any():
        return np.zeros(0, dtype=np.intp)
    others = np.flatnonzero(~played)
    drawn = random.choice(others, min(NEGATIVES, len(others)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(played), drawn]))


def stack(groups: list[tuple[NDArray[np.float32], NDArray[np.int8]]]) -> Groups:
    """Return the groups that have rows, end to end."""
    filled = [group for group in groups if len(group[1])]
    if not filled:
        raise LogError(
            "no candidate of any user was played after a training cut: the log is too small or "
            "too short to train a ranker on"
        )
    return Groups(
        features=np.concatenate([features for features, _ in filled]),
        labels=np.concatenate([labels for _, labels in filled]),
        sizes=np.array([len(labels) for _, labels in filled], dtype=np.int32),
    )


def train_ranker(groups: Groups, *, seed: int) -> str:
    """Return the text of a LambdaMART model (Burges, MSR-TR-2010-82); same input, same text."""
    names = list(feature_names())
    train = lgb.Dataset(
        groups.features, groups.labels, group=groups.sizes, feature_name=names, free_raw_data=True
    )
    booster = lgb.train({**PARAMETERS, "seed": seed}, train, num_boost_round=TREES)
    return str(booster.model_to_string())
