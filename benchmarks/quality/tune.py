"""Tuning: one setting after the other, from sensible ones, by the validation window."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.factor_peers import Als, Bpr
from benchmarks.quality.item_peers import (
    Ease,
    ItemKnn,
    Popularity,
    RecentPopularity,
    Settings,
    Transitions,
)
from benchmarks.quality.protocol import Past, Score

ALL_ALIKE = float(np.inf)
SCALES = (ALL_ALIKE, 30.0, 10.0, 5.0, 3.0)
TIMED = frozenset({"time"})
ORDERED = frozenset({"time", "position"})
ANY_ORDER = ORDERED | {"none"}


@dataclass(frozen=True, slots=True)
class Peer:
    """A method to compare with, its settings, and where the search begins: their first values."""

    name: str
    fit: Callable[[Past], Callable[[Settings], Score]]
    grid: Mapping[str, tuple[float, ...]]
    """Values of each setting, the one to begin with first."""
    rounds: int = 1
    """Times that all settings are gone through."""
    orders: frozenset[str] = ANY_ORDER
    """Orders of a log that it can be fitted on."""


_EASE = {"l2": (300.0, 30.0, 100.0, 1000.0, 3000.0)}
_KNN = {"neighbours": (100.0, 20.0, 500.0), "shrink": (10.0, 0.0, 100.0, 300.0)}

PEERS = (
    Peer("popularity", Popularity, {}),
    Peer(
        "popularity, 7 days",
        RecentPopularity,
        {"days": (7.0,), "listeners": (1.0, 0.0)},
        orders=TIMED,
    ),
    Peer("ItemKNN", ItemKnn, {**_KNN, "scale": (ALL_ALIKE,)}, rounds=2),
    Peer("ItemKNN, recent plays", ItemKnn, {**_KNN, "scale": SCALES[1:]}, rounds=2, orders=ORDERED),
    Peer(
        "transitions",
        Transitions,
        {
            "scale": (3.0, 1.0, 10.0, 30.0, 100.0),
            "reach": (10.0, 1.0, 3.0),
            "damping": (0.3, 0.0, 0.5),
            "backward": (1.0, 0.0, 0.3),
        },
        rounds=2,
        orders=ORDERED,
    ),
    Peer(
        "ALS",
        Als,
        {
            "confidence": (10.0, 1.0, 3.0, 40.0),
            "factors": (64.0, 32.0, 128.0),
            "regularization": (0.05, 1.0, 10.0, 50.0),
        },
        rounds=2,
    ),
    Peer(
        "BPR",
        Bpr,
        {
            "learning_rate": (0.05, 0.01, 0.1),
            "regularization": (0.01, 0.001, 0.1),
            "factors": (64.0, 128.0),
            "epochs": (100.0,),
        },
    ),
    Peer("EASE", Ease, {**_EASE, "scale": (ALL_ALIKE,)}),
    Peer("EASE, recent plays", Ease, {"scale": SCALES[1:], **_EASE}, orders=ORDERED),
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the search found."""

    settings: Mapping[str, float]
    value: float
    """Of the metric, on the validation window."""
    tried: int


def tune(peer: Peer, worth: Callable[[Settings], float]) -> Tuned:
    """Return the best settings found, each setting tried in turn with the others at their best.

    Ties go to what was tried first.
    """
    best = {name: values[0] for name, values in peer.grid.items()}
    known: dict[tuple[float, ...], float] = {}

    def worth_of(settings: Settings) -> float:
        at = tuple(settings.values())
        if at not in known:
            known[at] = worth(settings)
        return known[at]

    for _ in range(peer.rounds):
        for name, values in peer.grid.items():
            tried = [{**best, name: value} for value in values]
            best = max([best, *tried], key=worth_of)
    return Tuned(best, worth_of(best), len(known))
