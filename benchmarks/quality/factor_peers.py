"""Peers that factor users by items, both by `implicit`: ALS and BPR."""

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.quality.item_peers import Settings
from benchmarks.quality.protocol import Past, Score

ALS_ITERATIONS = 15
MAX_PLAYS = 5
"""Repeats beyond this add nothing to a confidence."""


class Als:
    """Hu, Koren and Volinsky (ICDM 2008); `confidence` is c - 1 of one play."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._plays = past.plays()

    def __call__(self, settings: Settings) -> Score:
        """Return inner products with the users' trained vectors."""
        counted = np.minimum(self._plays.data, MAX_PLAYS) * np.float32(settings["confidence"])
        confidences = sp.csr_matrix(
            (1 + counted, self._plays.indices, self._plays.indptr), shape=self._plays.shape
        )
        # Its own threads split the users; BLAS's would only fight them.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=int(settings["factors"]),
                regularization=settings["regularization"],
                iterations=ALS_ITERATIONS,
                random_state=self._past.seed,
            )
            model.fit(confidences, show_progress=False)
        return _products(np.asarray(model.user_factors), np.asarray(model.item_factors))


class Bpr:
    """Rendle et al. (UAI 2009). Its threads update without locks: runs differ a little."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._played = past.played()

    def __call__(self, settings: Settings) -> Score:
        """Return inner products with the users' trained vectors."""
        model = BayesianPersonalizedRanking(
            factors=int(settings["factors"]),
            learning_rate=settings["learning_rate"],
            regularization=settings["regularization"],
            iterations=int(settings["epochs"]),
            random_state=self._past.seed,
        )
        model.fit(self._played, show_progress=False)
        return _products(np.asarray(model.user_factors), np.asarray(model.item_factors))


def _products(users: NDArray[np.float32], items: NDArray[np.float32]) -> Score:
    return lambda asked: np.asarray(users[asked] @ items.T, dtype=np.float32)
