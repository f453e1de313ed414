"""What features and scores are made by in a peer: stock parts, or what the ranker service has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import numpy_features
from services.ranker.adapters import scoring_model
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.domain import features
from services.ranker.domain.values import ItemTables, RankingQuery, ScoringModel

ModelKind = Literal["stock", "kernel"]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How candidates are ranked."""

    assemble: Callable[[RankingQuery, ItemTables], NDArray[np.float32]]
    """Makes the features, float32 [candidates, features]."""
    model: ScoringModel


def open_ranking(kind: ModelKind, directory: Path) -> Ranking:
    """Return how a verified bundle's candidates are ranked."""
    names = features.feature_names()
    if kind == "stock":
        return Ranking(numpy_features.assemble, LightgbmModel.open(directory, names))
    # As the ranker service's own wiring opens it.
    return Ranking(features.assemble, scoring_model.open_model(directory, names))
