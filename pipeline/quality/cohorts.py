"""Cohorts: whom and what the ranked list serves well, and whom it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import MERGED, POPULARITY, RANKED
from pipeline.metrics import METRICS
from pipeline.quality.bootstrap import Interval, intervals
from pipeline.quality.observe import Observation
from pipeline.quality.scoreboard import qualities_of

HEAD = 0.2
"""The most played fifth of the catalogue is the head, the rest the tail."""
COMPARED = (RANKED, MERGED, POPULARITY)
SHOWN = ("ndcg_10", "hit_10", "recall_100")


@dataclass(frozen=True, slots=True)
class Cohort:
    """Some of the users, or some of what they played."""

    name: str
    definition: str
    users: int
    methods: Mapping[str, Mapping[str, Interval]]
    """By method of `COMPARED`, by metric of `SHOWN`; empty without users."""


def user_cohorts(
    observations: Sequence[Observation], *, min_history: int, seed: int
) -> tuple[Cohort, ...]:
    """Return new, light and heavy users; the median of the others parts light from heavy."""
    plays = np.array([each.plays for each in observations])
    known = plays >= min_history
    middle = float(np.median(plays[known])) if known.any() else float(min_history)
    parts = (
        ("new users", f"fewer than {min_history} plays", ~known),
        ("light users", f"{min_history} to below {middle:g} plays", known & (plays < middle)),
        ("heavy users", f"{middle:g} plays and more", known & (plays >= middle)),
    )
    return tuple(
        _cohort(
            name, definition, [observations[place] for place in np.flatnonzero(mask).tolist()], seed
        )
        for name, definition, mask in parts
    )


def item_cohorts(
    observations: Sequence[Observation], share_rank: NDArray[np.float32], *, seed: int
) -> tuple[Cohort, ...]:
    """Return how well head and tail items are found, over the users who played any.

    The targets of a user are parted, and each part measured as if it were all of them. Items that
    the bundle does not know are of the tail.
    """
    in_head = [_is_head(each.targets, share_rank) for each in observations]
    in_tail = [~mask for mask in in_head]
    return (
        _targets_cohort("head items", f"most played {HEAD:.0%}", observations, in_head, seed),
        _targets_cohort("tail items", "all others", observations, in_tail, seed),
    )


def _is_head(targets: NDArray[np.uint32], share_rank: NDArray[np.float32]) -> NDArray[np.bool_]:
    head = np.zeros(len(targets), dtype=np.bool_)
    known = targets < len(share_rank)
    head[known] = share_rank[targets[known]] < HEAD
    return head


def _targets_cohort(
    name: str,
    definition: str,
    observations: Sequence[Observation],
    masks: Sequence[NDArray[np.bool_]],
    seed: int,
) -> Cohort:
    kept = [(each, mask) for each, mask in zip(observations, masks, strict=True) if mask.any()]
    lists = [each.lists for each, _ in kept]
    targets = [each.targets[mask] for each, mask in kept]
    return Cohort(name, definition, len(kept), _measured(lists, targets, seed))


def _cohort(name: str, definition: str, observations: Sequence[Observation], seed: int) -> Cohort:
    lists = [each.lists for each in observations]
    targets = [each.targets for each in observations]
    return Cohort(name, definition, len(observations), _measured(lists, targets, seed))


def _measured(
    lists: Sequence[Mapping[str, NDArray[np.uint32]]],
    targets: Sequence[NDArray[np.uint32]],
    seed: int,
) -> dict[str, dict[str, Interval]]:
    if not lists:
        return {}
    compared = [{method: of_user[method] for method in COMPARED} for of_user in lists]
    return {
        method: {
            metric: found
            for metric, found in zip(METRICS, intervals(values, seed=seed), strict=True)
            if metric in SHOWN
        }
        for method, values in qualities_of(compared, targets).items()
    }
