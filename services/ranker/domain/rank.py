"""Rank: look up, assemble, score."""

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.features import assemble
from services.ranker.domain.values import ItemTables, RankingQuery, ScoringModel


def rank(query: RankingQuery, tables: ItemTables, model: ScoringModel) -> NDArray[np.float32]:
    """Return the model's score of every candidate, float32 [c], parallel to `query.rows`."""
    return model.score(assemble(query, tables))
