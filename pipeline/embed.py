"""Item embeddings: ALS over the log."""

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from pipeline.event_log import Events
from signals.bundle import Embedding

DIMENSION = 64
ITERATIONS = 15
REGULARIZATION = 0.05
CONFIDENCE = 10.0
"""c - 1 of one play (alpha of Hu, Koren and Volinsky, 2008); repeats add up to `MAX_PLAYS`."""
MAX_PLAYS = 5


def embed(events: Events, n_users: int, n_items: int, *, seed: int) -> Embedding:
    """Return ALS vectors of every item, float32 [n_items, DIMENSION]; same input, same bits.

    BLAS runs on one thread, since the order of its sums depends on their number; ALS itself
    solves each row alone and may use every core.
    """
    counted = np.ones(len(events), dtype=np.float32)
    plays = sp.csr_matrix((counted, (events.users, events.rows)), shape=(n_users, n_items))
    plays.data = 1 + np.minimum(plays.data, MAX_PLAYS) * np.float32(CONFIDENCE)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=DIMENSION,
            regularization=REGULARIZATION,
            iterations=ITERATIONS,
            random_state=seed,
        )
        model.fit(plays, show_progress=False)
    vectors = np.asarray(model.item_factors, dtype=np.float32)
    wide = vectors.astype(np.float64)
    return Embedding(vectors, wide.T @ wide)
