"""Peers that score items by items: popularity, neighbours, transitions, EASE."""

from collections.abc import Mapping

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.quality.protocol import Past, Score, Scores

DAY_S = 86_400
BLOCK_ITEMS = 512
DENSE = 0.05
"""Share of weights other than 0 from which on a product with a plain table is the faster one."""
MAX_EASE_ITEMS = 10_000
"""EASE inverts items x items: 0.8 GB and seconds there, and eight times as long at twice that."""

Settings = Mapping[str, float]


class Popularity:
    """The items with most listeners."""

    def __init__(self, past: Past) -> None:
        self._past = past

    def __call__(self, _settings: Settings) -> Score:
        """Return the same scores for everybody."""
        return _same_for_all(_listeners(self._past))


class RecentPopularity:
    """The most played items of the last days; `listeners` 1 counts each user once."""

    def __init__(self, past: Past) -> None:
        self._past = past

    def __call__(self, settings: Settings) -> Score:
        """Return the same scores for everybody."""
        events = self._past.events
        recent = events.where(events.times_s >= self._past.as_of_s - settings["days"] * DAY_S)
        users, rows = recent.users.astype(np.int64), recent.rows.astype(np.int64)
        if settings["listeners"]:
            rows = np.unique(users * self._past.n_items + rows) % self._past.n_items
        return _same_for_all(np.bincount(rows, minlength=self._past.n_items))


class ItemKnn:
    """Item neighbours by cosine: Sarwar et al., WWW 2001, shrunk towards 0 where few listened.

    `neighbours` are kept of each item; `scale` weighs a user's newest plays (infinite: all alike).
    """

    def __init__(self, past: Past) -> None:
        self._past = past
        self._played = past.played()
        self._together = (self._played.T @ self._played).tocsr()

    def __call__(self, settings: Settings) -> Score:
        """Return scores summed over the neighbours of a user's items."""
        lengths = np.sqrt(self._together.diagonal()).astype(np.float32)
        kept = [
            self._nearest(start, lengths, settings)
            for start in range(0, self._past.n_items, BLOCK_ITEMS)
        ]
        return _sum_over(self._past.history(settings["scale"]), sp.vstack(kept).tocsr())

    def _nearest(
        self, start: int, lengths: NDArray[np.float32], settings: Settings
    ) -> sp.csr_matrix:
        block = self._together[start : start + BLOCK_ITEMS].toarray()
        own = np.arange(len(block))
        block[own, start + own] = 0
        products = lengths[start : start + BLOCK_ITEMS, None] * lengths
        block /= np.maximum(products + np.float32(settings["shrink"]), 1e-9)
        return sp.csr_matrix(keep_greatest(block, int(settings["neighbours"])))


class Transitions:
    """What follows what: pairs of one user within `reach` plays weigh 1 / distance.

    `backward` is the weight of the other direction, `damping` the power of an item's listeners
    that its scores are divided by, `scale` weighs a user's newest plays.
    """

    def __init__(self, past: Past) -> None:
        self._past = past
        self._counted: tuple[int, sp.csr_matrix] | None = None

    def __call__(self, settings: Settings) -> Score:
        """Return scores summed over what followed a user's items."""
        follows = self._follows(int(settings["reach"]))
        both = (follows + settings["backward"] * follows.T).tocsr()
        listeners = np.maximum(_listeners(self._past), 1).astype(np.float32)
        damped = both @ sp.diags(listeners ** -settings["damping"])
        return _sum_over(self._past.history(settings["scale"]), damped.tocsr())

    def _follows(self, reach: int) -> sp.csr_matrix:
        """Return what follows what within `reach`; that of the last one asked for is kept."""
        if self._counted is None or self._counted[0] != reach:
            self._counted = (reach, self._count(reach))
        return self._counted[1]

    def _count(self, reach: int) -> sp.csr_matrix:
        events, n = self._past.events, self._past.n_items
        follows = sp.csr_matrix((n, n), dtype=np.float32)
        for distance in range(1, reach + 1):
            same = events.users[distance:] == events.users[:-distance]
            pairs = (events.rows[:-distance][same], events.rows[distance:][same])
            weights = np.full(len(pairs[0]), 1 / distance, dtype=np.float32)
            follows = follows + sp.csr_matrix((weights, pairs), shape=(n, n))
        follows.setdiag(0)
        return follows


class Ease:
    """EASE: the closed form of Steck, "Embarrassingly shallow autoencoders", WWW 2019.

    Beyond `MAX_EASE_ITEMS` the items with fewest listeners are left out. `scale` weighs a user's
    newest plays when asked (infinite: as published).
    """

    def __init__(self, past: Past) -> None:
        self._past = past
        self._kept = np.sort(np.argsort(-_listeners(past), kind="stable")[:MAX_EASE_ITEMS])
        played = past.played()[:, self._kept]
        self._together = (played.T @ played).toarray().astype(np.float64)
        self._solved: tuple[float, NDArray[np.float32]] | None = None

    def __call__(self, settings: Settings) -> Score:
        """Return scores of a user's plays times the item weights."""
        weights = self._weights(settings["l2"])
        history = self._past.history(settings["scale"])[:, self._kept]

        def score(users: NDArray[np.intp]) -> Scores:
            scores = np.zeros((len(users), self._past.n_items), dtype=np.float32)
            scores[:, self._kept] = history[users] @ weights
            return scores

        return score

    def _weights(self, l2: float) -> NDArray[np.float32]:
        """Return the item weights; those of the last `l2` asked for are kept."""
        if self._solved is None or self._solved[0] != l2:
            self._solved = (l2, ease_weights(self._together, l2))
        return self._solved[1]


def ease_weights(together: NDArray[np.float64], l2: float) -> NDArray[np.float32]:
    """Return EASE's weights, float32 [n, n], zero on the diagonal, of item co-occurrences."""
    ridged = together + l2 * np.eye(len(together))
    # Transposed, since LAPACK works in place on columns only; the matrix is its own transpose.
    factor, failed = scipy.linalg.lapack.dpotrf(ridged.T, lower=1, clean=1, overwrite_a=1)
    lower, failed_too = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError("item co-occurrences and their ridge cannot be inverted")
    diagonal = np.diag(lower).copy()
    weights = (lower + lower.T).astype(np.float32)
    weights /= -diagonal.astype(np.float32)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, dtype=np.float32)


def keep_greatest(block: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `block` with all but the `count` greatest of each row set to 0."""
    if count >= block.shape[1]:
        return block
    gone = np.argpartition(-block, count - 1, axis=1)[:, count:]
    kept = block.copy()
    np.put_along_axis(kept, gone, 0, axis=1)
    return kept


def _listeners(past: Past) -> NDArray[np.intp]:
    return np.bincount(past.played().indices, minlength=past.n_items)


def _same_for_all(scores: NDArray[np.intp]) -> Score:
    row = scores.astype(np.float32)
    return lambda users: np.broadcast_to(row, (len(users), len(row)))


def _sum_over(history: sp.csr_matrix, weights: sp.csr_matrix) -> Score:
    if weights.nnz > DENSE * weights.shape[0] * weights.shape[1]:
        table = weights.toarray()
        return lambda users: np.asarray(history[users] @ table, dtype=np.float32)
    return lambda users: np.asarray((history[users] @ weights).toarray(), dtype=np.float32)
