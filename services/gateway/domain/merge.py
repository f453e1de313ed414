"""Merge: many ranked lists become one, and every source's word is kept.

Reciprocal rank fusion: a candidate's merge score is the sum over sources of 1 / (60 + rank)
(Cormack, Clarke and Buettcher, SIGIR 2009). Ranks only, since scores of different sources are not
comparable.

How this works. All lists stand end to end, and one pass over them keeps a column for each source
of the rows that it has not met before, which a hash table tells. The pass is compiled by numba at
the first call and kept in its cache (`NUMBA_CACHE_DIR`); it takes microseconds, so it does not let
go of the GIL.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from services.gateway.domain.values import Merged, SourceAnswer, SourceColumn
from signals.top import best_first

FUSION_OFFSET = 60.0

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_HALF, _ONE = np.uint64(32), np.uint64(1)


def merge(answers: Sequence[SourceAnswer]) -> Merged:
    """Return the candidates of all answers, each once, in merge order."""
    answered = [answer for answer in answers if len(answer.rows)]
    if not answered:
        return NOTHING
    rows, fused, ranks, scores = _fuse(
        np.concatenate([answer.rows for answer in answered]),
        np.concatenate([answer.scores for answer in answered]),
        np.array([len(answer.rows) for answer in answered]),
    )
    order = best_first(rows, fused, len(rows))
    ranks, scores = ranks.take(order, axis=1), scores.take(order, axis=1)
    columns = {
        answer.source: SourceColumn(ranks[source], scores[source])
        for source, answer in enumerate(answered)
    }
    return Merged(rows.take(order), fused.take(order), columns)


@njit(cache=True, error_model="numpy")
def _fuse(said_rows: Any, said_scores: Any, lengths: Any) -> Any:
    """Return the distinct rows, their merge scores, and ranks and scores, [sources, rows] each.

    `said_rows` and `said_scores` are the answers end to end, `lengths` says how long each is. A
    row that is said twice in one answer keeps its best rank.
    """
    size = 16
    while size < 2 * len(said_rows):
        size *= 2
    last = np.uint64(size - 1)
    slots = np.zeros(size, np.uint32)  # a place among the found + 1
    rows, n_found = np.empty(len(said_rows), np.uint32), 0
    fused = np.zeros(len(said_rows))
    ranks = np.zeros((len(lengths), len(said_rows)), np.uint32)
    scores = np.zeros((len(lengths), len(said_rows)), np.float32)
    at_said = 0
    for source in range(len(lengths)):
        for rank in range(1, lengths[source] + 1):
            row, score = said_rows[at_said], said_scores[at_said]
            at_said += 1
            slot = ((np.uint64(row) * _MIX) >> _HALF) & last
            while slots[slot] != 0 and rows[slots[slot] - 1] != row:
                slot = (slot + _ONE) & last
            if slots[slot] == 0:
                rows[n_found] = row
                n_found += 1
                slots[slot] = n_found
            place = slots[slot] - 1
            if ranks[source, place] == 0:
                ranks[source, place] = rank
                scores[source, place] = score
                fused[place] += 1.0 / (FUSION_OFFSET + rank)
    merge_scores = fused[:n_found].astype(np.float32)
    return rows[:n_found], merge_scores, ranks[:, :n_found], scores[:, :n_found]


NOTHING = Merged(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32), {})
