"""Curves: what the score says of a play, what a longer list would find, what the model used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import LIST_LENGTH
from pipeline.progress import MeasuredStep
from pipeline.quality.observe import Observation

DECILES = 10


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of all ranked candidates of all users, by the model's score."""

    score: float
    """Mean score; scores order, they are no probabilities."""
    hit_rate: float
    """Share that was played."""
    candidates: int


@dataclass(frozen=True, slots=True)
class FeatureGain:
    """How much one feature did for the model."""

    feature: str
    share: float
    """Of the summed gain of all splits."""


def calibration(observations: Sequence[Observation]) -> tuple[Decile, ...]:
    """Return the tenths of what the model scored, lowest first; fewer where there are fewer."""
    scored = [(each.scores, each) for each in observations if each.scores is not None]
    if not scored:
        return ()
    scores = np.concatenate([scores for scores, _ in scored])
    hits = np.concatenate([np.isin(each.candidates, each.targets) for _, each in scored])
    order = np.argsort(scores, kind="stable")
    return tuple(
        Decile(float(scores[part].mean()), float(hits[part].mean()), len(part))
        for part in np.array_split(order, DECILES)
        if len(part)
    )


def gain_curve(
    lists: Sequence[NDArray[np.uint32]], targets: Sequence[NDArray[np.uint32]]
) -> tuple[float, ...]:
    """Return the mean share of a user's targets among the first 1, 2, ... `LIST_LENGTH` rows."""
    found = np.zeros(LIST_LENGTH)
    for rows, wanted in zip(lists, targets, strict=True):
        hits = np.isin(rows[:LIST_LENGTH], wanted)
        found[: len(hits)] += hits / len(wanted)
    return tuple((found.cumsum() / max(1, len(lists))).tolist())


def feature_gains(model_text: str) -> tuple[FeatureGain, ...]:
    """Return every feature's share of the gain, greatest first; ties by name.

    Give it the text of a verified bundle: LightGBM crashes on others.
    """
    booster = lgb.Booster(model_str=model_text)
    gains = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    shares = gains / (gains.sum() or 1.0)
    named = zip(booster.feature_name(), shares.tolist(), strict=True)
    return tuple(
        FeatureGain(name, share) for name, share in sorted(named, key=lambda at: (-at[1], at[0]))
    )


def learning_curve(report: Mapping[str, object]) -> tuple[float, ...]:
    """Return NDCG@10 after each tree, as training's report has it; empty where it has none."""
    curve = report.get("learning_curve", ())
    if not isinstance(curve, list):
        return ()
    return tuple(float(value) for value in curve)


def trees_kept(report: Mapping[str, object]) -> int:
    """Return how many trees training kept; 0 where its report does not say."""
    trees = report.get("trees", 0)
    return trees if isinstance(trees, int) else 0


def steps_taken(report: Mapping[str, object]) -> tuple[MeasuredStep, ...]:
    """Return what the steps of training took; empty where its report does not say."""
    steps = report.get("steps", ())
    return tuple(MeasuredStep(**step) for step in steps) if isinstance(steps, list) else ()
