"""Histories as a bundle and DynamoDB get them."""

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import Events
from signals.bundle import Histories


def histories_of(events: Events, user_keys: NDArray[np.uint64]) -> Histories:
    """Return the plays of every user who has any, in rows of the events' own catalogue."""
    users, starts = np.unique(events.users, return_index=True)
    return Histories(
        user_keys=user_keys[users],
        offsets=np.append(starts, len(events)).astype(np.uint64),
        rows=events.rows,
        times_s=events.times_s,
    )
