"""The best of many: one deterministic order for every list of the mesh."""

import numpy as np
from numpy.typing import NDArray


def best_first(
    rows: NDArray[np.uint32], scores: NDArray[np.float32], limit: int
) -> NDArray[np.intp]:
    """Return the places of the `limit` highest scores, best first; ties go to the lower row.

    `rows` and `scores` are parallel; scores are finite. Equal input gives an equal list, also
    where a tie straddles the limit.
    """
    if len(scores) > limit:
        threshold = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        places = np.flatnonzero(scores >= threshold)
    else:
        places = np.arange(len(scores))
    return places[np.lexsort((rows[places], -scores[places]))][:limit]
