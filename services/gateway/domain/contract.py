"""What an answer of a leaf must keep to before anything is made of it: a wrong row is no item."""

from dataclasses import replace

import numpy as np

from services.gateway.domain.values import RankerAnswer, SourceAnswer

MAX_DATA_AGE_S = 315_576_000_000.0  # what google.protobuf.Duration allows


def keeps_contract(answer: SourceAnswer, n_items: int) -> bool:
    """Tell whether rows and scores are parallel, each a row of the bundle and a finite number."""
    return (
        len(answer.rows) == len(answer.scores)
        and bool((answer.rows < n_items).all())
        and bool(np.isfinite(answer.scores).all())
        and 0 <= (answer.data_age_s or 0) <= MAX_DATA_AGE_S
    )


def cut(answer: SourceAnswer, limit: int) -> SourceAnswer:
    """Return the answer without what comes beyond the limit that was asked for."""
    if len(answer.rows) <= limit:
        return answer
    return replace(answer, rows=answer.rows[:limit], scores=answer.scores[:limit])


def scores_fit(answer: RankerAnswer, n_candidates: int) -> bool:
    """Tell whether there is one finite score for each candidate, or none at all."""
    if answer.scores is None:
        return True
    return len(answer.scores) == n_candidates and bool(np.isfinite(answer.scores).all())
