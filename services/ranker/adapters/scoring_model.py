"""Which of the two scores: the forest kernel where a model can be packed, else LightGBM itself."""

import logging
from pathlib import Path

from services.ranker.adapters.forest_model import ForestModel
from services.ranker.adapters.model_text import FILE, read_trees, trained_on
from services.ranker.domain.forest import Forest, NotPackable
from services.ranker.domain.values import ScoringModel

log = logging.getLogger(__name__)


def open_model(directory: Path, feature_names: tuple[str, ...]) -> ScoringModel:
    """Return the model of a verified bundle: its forest if it has one, else LightGBM's.

    The second is slow, so a warning says why. Raises OSError, and ValueError for a model that was
    trained on other features.
    """
    text = (directory / FILE).read_text()
    if has_forest(directory):
        return _checked(text, feature_names, Forest.open(directory))
    return _lightgbm(text, feature_names, _why_without_forest(text))


def model_of(text: str, feature_names: tuple[str, ...]) -> ScoringModel:
    """Return what a checked model text scores with, as `open_model` will once it is published."""
    try:
        forest = Forest.of(read_trees(text))
    except NotPackable as exc:
        return _lightgbm(text, feature_names, str(exc))
    return _checked(text, feature_names, forest)


def has_forest(directory: Path) -> bool:
    """Say whether a bundle holds any of a forest's files."""
    return any((directory / name).exists() for name in Forest.file_names())


def _checked(text: str, feature_names: tuple[str, ...], forest: Forest) -> ForestModel:
    names = trained_on(text)
    if names != feature_names or forest.n_features > len(names):
        raise ValueError(
            f"{FILE} was trained on {len(names)} features that are not this program's "
            f"{len(feature_names)}"
        )
    return ForestModel(forest)


def _lightgbm(text: str, feature_names: tuple[str, ...], reason: str) -> ScoringModel:
    # Where the kernel scores nobody pays the memory of LightGBM and of what it imports.
    from services.ranker.adapters.lightgbm_model import LightgbmModel  # noqa: PLC0415

    log.warning("LightGBM scores, which takes several times as long as the kernel: %s", reason)
    return LightgbmModel(text, feature_names)


def _why_without_forest(text: str) -> str:
    try:
        read_trees(text)
    except NotPackable as exc:
        return str(exc)
    return "the bundle was published without the forest's arrays"
