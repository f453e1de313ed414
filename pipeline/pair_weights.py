"""Weights between the most played items, as a bundle keeps them."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import Events
from signals.bundle import PairWeights

GREATEST_STEP = 32_767
"""Steps that the farthest weight from 0 of each item is rounded to; the others to as many of the
same size."""

AnyWeights = TypeVar("AnyWeights", bound=PairWeights)


@dataclass(frozen=True, slots=True)
class Participants:
    """The items that weights are between."""

    rows: NDArray[np.uint32]
    """uint32 [m], rising."""
    places: NDArray[np.int32]
    """int32 [n], the place of each row among them, -1 where it takes no part."""

    @classmethod
    def most_played(cls, events: Events, n_items: int, most: int) -> "Participants":
        """Return the `most` items with most plays, and none without a play."""
        plays = np.bincount(events.rows, minlength=n_items)
        first = np.lexsort((np.arange(n_items), -plays))[:most]
        rows = np.sort(first[plays[first] > 0]).astype(np.uint32)
        places = np.full(n_items, -1, dtype=np.int32)
        places[rows] = np.arange(len(rows))
        return cls(rows, places)


def rounded(
    kind: type[AnyWeights],
    weights: NDArray[np.float32],
    part: Participants,
    scales: NDArray[np.float64],
) -> AnyWeights:
    """Return `weights` (float32 [s, m, m] between the participants) as a bundle keeps them."""
    size = len(part.rows)
    kept = np.array(weights, dtype=np.float32, order="C")
    kept[:, np.arange(size), np.arange(size)] = 0
    units = np.abs(kept).max(axis=2, initial=0) / np.float32(GREATEST_STEP)
    np.divide(kept, units[:, :, None], out=kept, where=units[:, :, None] > 0)
    return kind(
        places=part.places,
        scales=scales.astype(np.float32),
        rows=part.rows,
        weights=np.rint(kept).astype(np.int16),
        units=units,
    )
