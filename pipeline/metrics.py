"""How good a list is: the metrics of the report, one user at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ListQuality:
    """Quality of one user's list against what they played next; each in [0, 1]."""

    ndcg_10: float
    ndcg_20: float
    hit_10: float
    recall_20: float
    recall_100: float


METRICS = tuple(ListQuality.__slots__)


def list_quality(rows: NDArray[np.uint32], targets: NDArray[np.uint32]) -> ListQuality:
    """Return the quality of `rows` (best first, each once) against `targets` (each once, >= 1)."""
    hits = np.isin(rows, targets)
    return ListQuality(
        ndcg_10=_ndcg(hits, len(targets), 10),
        ndcg_20=_ndcg(hits, len(targets), 20),
        hit_10=float(hits[:10].any()),
        recall_20=float(hits[:20].sum() / len(targets)),
        recall_100=float(hits[:100].sum() / len(targets)),
    )


def _ndcg(hits: NDArray[np.bool_], n_targets: int, depth: int) -> float:
    """Return binary NDCG at `depth` (Jarvelin and Kekalainen, 2002; gain 1, discount log2)."""
    discounts = 1.0 / np.log2(np.arange(2, depth + 2))
    gained = discounts[: len(hits[:depth])][hits[:depth]].sum()
    return float(gained / discounts[: min(depth, n_targets)].sum())
