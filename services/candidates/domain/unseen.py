"""Which items a source may still propose."""

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.values import Query
from signals.bloom import contains


def is_unseen(
    query: Query, rows: NDArray[np.uint32], item_keys: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Return for each of `rows` whether the user has not had it and did not exclude it.

    `item_keys` is uint64 [n_items] of the bundle. Filtering here, not only in the gateway, keeps
    heavy listeners' lists full: they have had most of what everybody plays.
    """
    seen = contains(query.seen_filter, item_keys[rows])
    seen |= np.isin(rows, query.exclude_rows)
    seen |= np.isin(rows, query.history_rows)
    return ~seen
