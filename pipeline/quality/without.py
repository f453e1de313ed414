"""What the ranked list is without a source or a group of features; nothing is trained anew.

A source that is left out proposes nothing, and its columns are missing, as when it is down. A
feature group that is left out has its features' missing values for every candidate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import EvaluationError
from services.ranker.domain.features import FEATURE_GROUPS
from services.ranker.domain.values import ScoringModel


@dataclass(frozen=True, slots=True)
class Without:
    """What is left out together."""

    label: str
    sources: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


def each_alone(sources: Iterable[str]) -> tuple[Without, ...]:
    """Return every source and every feature group, each left out alone."""
    return (
        *(Without(f"source {name}", sources=frozenset({name})) for name in sources),
        *(Without(f"features {name}", groups=frozenset({name})) for name in group_names()),
    )


def together(names: Sequence[str], sources: Iterable[str]) -> Without:
    """Return the named sources and feature groups, left out together.

    A name that is both stands for both. Raises EvaluationError for one that is neither.
    """
    known, groups = frozenset(sources), frozenset(group_names())
    for name in names:
        if name not in known | groups:
            raise EvaluationError(
                f"--without {name}: neither a source ({', '.join(sorted(known))}) nor a feature "
                f"group ({', '.join(sorted(groups))})"
            )
    named = frozenset(names)
    return Without(" and ".join(names), sources=known & named, groups=groups & named)


def group_names() -> tuple[str, ...]:
    """Return the names of the feature groups, in order."""
    return tuple(group.name for group in FEATURE_GROUPS)


@dataclass(frozen=True, slots=True)
class MaskedModel:
    """A model that is told nothing of some feature groups."""

    model: ScoringModel
    columns: NDArray[np.intp]
    missing: NDArray[np.float32]
    """Parallel to `columns`."""

    @classmethod
    def of(cls, model: ScoringModel, groups: frozenset[str]) -> ScoringModel:
        """Return `model` itself where no group is left out."""
        features = [(group.name, each) for group in FEATURE_GROUPS for each in group.features]
        masked = [place for place, (name, _) in enumerate(features) if name in groups]
        if not masked:
            return model
        missing = np.array([features[place][1].missing for place in masked], dtype=np.float32)
        return cls(model, np.array(masked, dtype=np.intp), missing)

    @property
    def scorer(self) -> str:
        """What computes the scores."""
        return self.model.scorer

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the raw scores of features whose masked columns are missing."""
        masked = features.copy()
        masked[:, self.columns] = self.missing
        return self.model.score(masked)
