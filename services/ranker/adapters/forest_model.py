"""The bundle's trees as bit vectors behind `ScoringModel`."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.forest import Forest


class ForestModel:
    """Scores with the forest kernel, on the calling thread and without the GIL."""

    scorer = "forest"

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._n_features = forest.n_features

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map the forest of a verified bundle. Raises OSError or ValueError."""
        return cls(Forest.open(directory))

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw scores: LightGBM's, to the last bit."""
        return self.raw_scores(features).astype(np.float32)

    def raw_scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return raw scores as the kernel adds them up, float64 [c].

        Raises ValueError for fewer columns than the trees look at: the kernel would not notice.
        """
        if features.ndim != 2 or features.shape[1] < self._n_features:  # noqa: PLR2004 - a matrix
            raise ValueError(f"features of shape {features.shape}; {self._n_features} are needed")
        return self._forest.raw_scores(np.ascontiguousarray(features, dtype=np.float32))
