"""The forest in a bundle: written where the model can be packed, and checked against the model."""

import io
from dataclasses import fields
from pathlib import Path

import numpy as np

from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.adapters.model_text import read_trees
from services.ranker.adapters.scoring_model import has_forest
from services.ranker.domain.forest import Forest, NotPackable

FILES = Forest.file_names()
"""All in a bundle, or none. Another layout needs other names: a bundle of before, whose arrays are
compared with what is packed today, would be refused."""


class ForestError(ValueError):
    """A forest that is not that of its model; the message names the file and the fault."""


def write_forest(directory: Path, model_text: str) -> None:
    """Write the arrays of a checked model beside it; none when it cannot be packed."""
    try:
        forest = Forest.of(read_trees(model_text))
    except NotPackable:
        return
    forest.write(directory)


def check_forest(directory: Path) -> None:
    """Raise ForestError unless the bundle's forest, if it has one, is its checked model's.

    To the bit, headers included: the kernel trusts these arrays.
    """
    if not has_forest(directory):
        return
    try:
        forest = Forest.of(read_trees((directory / MODEL_FILE).read_text()))
    except NotPackable as exc:
        raise ForestError(f"{FILES[0]}: the model cannot be packed: {exc}") from exc
    for field, name in zip(fields(forest), FILES, strict=True):
        path = directory / name
        if not path.exists():
            raise ForestError(f"{name} is missing, though other arrays of the forest are there")
        expected = io.BytesIO()
        np.save(expected, getattr(forest, field.name), allow_pickle=False)
        if path.read_bytes() != expected.getvalue():
            raise ForestError(f"{name} is not what {MODEL_FILE} is packed to")
