"""Merge: many ranked lists become one, and every source's word is kept.

Reciprocal rank fusion: a candidate's merge score is the sum over sources of 1 / (60 + rank)
(Cormack, Clarke and Buettcher, SIGIR 2009). Ranks only, since scores of different sources are not
comparable.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.values import Merged, Rows, SourceAnswer, SourceColumn
from signals.top import best_first

FUSION_OFFSET = 60.0


def merge(answers: Sequence[SourceAnswer]) -> Merged:
    """Return the candidates of all answers, each once, in merge order."""
    answered = [answer for answer in answers if len(answer.rows)]
    if not answered:
        return NOTHING
    rows = np.unique(np.concatenate([answer.rows for answer in answered]))
    columns = {answer.source: _column(answer, rows) for answer in answered}
    scores = np.zeros(len(rows))
    for column in columns.values():
        scores += np.where(column.ranks > 0, 1.0 / (FUSION_OFFSET + column.ranks), 0.0)
    merged = Merged(rows, scores.astype(np.float32), columns)
    return merged.take(best_first(rows, merged.scores, len(rows)))


def _column(answer: SourceAnswer, rows: Rows) -> SourceColumn:
    """Return the answer as a column over `rows` (sorted); a doubled row keeps its best rank."""
    ranks = np.zeros(len(rows), dtype=np.uint32)
    scores = np.zeros(len(rows), dtype=np.float32)
    worst_first = slice(None, None, -1)
    place: NDArray[np.intp] = np.searchsorted(rows, answer.rows[worst_first])
    ranks[place] = np.arange(len(answer.rows), 0, -1, dtype=np.uint32)
    scores[place] = answer.scores[worst_first]
    return SourceColumn(ranks, scores)


NOTHING = Merged(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32), {})
