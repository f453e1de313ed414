"""Fates: where on the way from the log to the page the items were lost that users then played."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import LIST_LENGTH, RANKED
from pipeline.quality.observe import Observation

PLACES = (10, 20, LIST_LENGTH)
UNKNOWN = "not in the bundle"
NOT_PROPOSED = "proposed by no source"
CUT = "cut before ranking"
RANKED_LOW = f"ranked below {LIST_LENGTH}"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a share of the targets."""

    name: str
    share: float
    """Mean over users of the share of a user's targets; all fates add up to 1."""


@dataclass(frozen=True, slots=True)
class SourceRecall:
    """What one source finds of the targets, in everything that it answers."""

    source: str
    recall: float
    """Mean over users of the share of the targets that are in its answer."""
    unique_recall: float
    """The same of targets that no other source found: what retrieval loses without it."""
    answered: float
    """Mean length of its answer."""


def fates(observations: Sequence[Observation], n_items: int) -> tuple[Fate, ...]:
    """Return the fates in the order of the way, best last."""
    by_user = [fates_of(each, n_items) for each in observations]
    names = by_user[0] if by_user else {}
    return tuple(Fate(name, float(np.mean([each[name] for each in by_user]))) for name in names)


def fates_of(observation: Observation, n_items: int) -> dict[str, float]:
    """Return the share of one user's targets of every fate; a target has the first that fits."""
    targets = observation.targets
    proposed = np.zeros(len(targets), dtype=np.bool_)
    for rows in observation.proposed.values():
        proposed |= np.isin(targets, rows)
    ranked = observation.lists[RANKED]
    fits = {
        UNKNOWN: targets >= n_items,
        **{f"filter {name}": mask for name, mask in observation.forbidden.items()},
        NOT_PROPOSED: ~proposed,
        CUT: ~np.isin(targets, observation.candidates),
        RANKED_LOW: ~np.isin(targets, ranked[:LIST_LENGTH]),
        f"places {PLACES[1] + 1} to {PLACES[2]}": ~np.isin(targets, ranked[: PLACES[1]]),
        f"places {PLACES[0] + 1} to {PLACES[1]}": ~np.isin(targets, ranked[: PLACES[0]]),
        f"places 1 to {PLACES[0]}": np.ones(len(targets), dtype=np.bool_),
    }
    return _first_that_fits(fits)


def _first_that_fits(fits: Mapping[str, Mask]) -> dict[str, float]:
    shares, left = {}, np.ones(len(next(iter(fits.values()))), dtype=np.bool_)
    for name, mask in fits.items():
        shares[name] = float((left & mask).mean())
        left &= ~mask
    return shares


def source_recalls(observations: Sequence[Observation]) -> tuple[SourceRecall, ...]:
    """Return what each source finds, and what only it finds."""
    if not observations:
        return ()
    found = [_found_by(each) for each in observations]
    return tuple(
        SourceRecall(
            source=name,
            recall=float(np.mean([masks[name].mean() for masks in found])),
            unique_recall=float(np.mean([_only(masks, name).mean() for masks in found])),
            answered=float(np.mean([len(each.proposed[name]) for each in observations])),
        )
        for name in observations[0].proposed
    )


def recall_of(lists: Sequence[NDArray[np.uint32]], targets: Sequence[NDArray[np.uint32]]) -> float:
    """Return the mean over users of the share of the targets that are in the whole list."""
    shares = [np.isin(t, rows).mean() for rows, t in zip(lists, targets, strict=True)]
    return float(np.mean(shares))


def _found_by(observation: Observation) -> dict[str, Mask]:
    return {name: np.isin(observation.targets, rows) for name, rows in observation.proposed.items()}


def _only(masks: Mapping[str, Mask], name: str) -> Mask:
    others = np.zeros_like(masks[name])
    for other, mask in masks.items():
        if other != name:
            others |= mask
    return masks[name] & ~others
