"""Which items a source may still propose."""

import numpy as np
from numpy.typing import NDArray

from services.candidates.domain.values import Query
from signals.membership import first_absent


def first_unseen(
    query: Query, rows: NDArray[np.uint32], item_keys: NDArray[np.uint64]
) -> NDArray[np.intp]:
    """Return the places of the first `query.limit` of `rows` that `is_unseen` is true of.

    No more of `rows` are looked at than that takes.
    """
    return _first_unseen(query, rows, item_keys, query.limit)


def is_unseen(
    query: Query, rows: NDArray[np.uint32], item_keys: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Return for each of `rows` whether the user has not had it and did not exclude it.

    `item_keys` is uint64 [n_items] of the bundle. Filtering here, not only in the gateway, keeps
    heavy listeners' lists full: they have had most of what everybody plays.
    """
    unseen = np.zeros(len(rows), dtype=np.bool_)
    unseen[_first_unseen(query, rows, item_keys, len(rows))] = True
    return unseen


def _first_unseen(
    query: Query, rows: NDArray[np.uint32], item_keys: NDArray[np.uint64], limit: int
) -> NDArray[np.intp]:
    gone = np.concatenate((query.history_rows, query.exclude_rows))
    return first_absent(np.ascontiguousarray(rows), gone, query.seen_filter, item_keys, limit)
