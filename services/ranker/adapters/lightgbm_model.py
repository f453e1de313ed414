"""LightGBM: the bundle's model text behind `ScoringModel`."""

from pathlib import Path
from typing import Self

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from services.ranker.adapters.model_text import FILE


class LightgbmModel:
    """Scores with LightGBM itself, on the calling thread."""

    scorer = "lightgbm"

    def __init__(self, model_text: str, feature_names: tuple[str, ...]) -> None:
        """Read the model. Raises ValueError when it is none or was trained on other features."""
        try:
            self._booster = lgb.Booster(model_str=model_text)
        except lgb.basic.LightGBMError as exc:
            raise ValueError(f"{FILE} is not a model: {exc}") from exc
        trained_on = tuple(self._booster.feature_name())
        if trained_on != feature_names:
            raise ValueError(
                f"{FILE} was trained on {len(trained_on)} features that are not this program's "
                f"{len(feature_names)}"
            )

    @classmethod
    def open(cls, directory: Path, feature_names: tuple[str, ...]) -> Self:
        """Read the model of a verified bundle."""
        return cls((directory / FILE).read_text(), feature_names)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw scores."""
        return self.raw_scores(features).astype(np.float32)

    def raw_scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return raw scores as LightGBM adds them up, float64 [c].

        One thread: LightGBM would otherwise take every core.
        """
        scores = self._booster.predict(features, raw_score=True, num_threads=1)
        return np.asarray(scores, dtype=np.float64)
