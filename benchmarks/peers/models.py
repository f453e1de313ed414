"""What scores in a peer: LightGBM itself, or the ranker service's own kernel."""

from pathlib import Path
from typing import Literal

from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.domain.features import feature_names
from services.ranker.domain.values import ScoringModel

ModelKind = Literal["stock", "kernel"]


def open_model(kind: ModelKind, directory: Path) -> ScoringModel:
    """Return the model of a verified bundle."""
    if kind == "stock":
        return LightgbmModel.open(directory, feature_names())
    return open_kernel(directory)


def open_kernel(directory: Path) -> ScoringModel:
    """Return what the ranker service itself scores with: the call that its wiring makes."""
    return LightgbmModel.open(directory, feature_names())
