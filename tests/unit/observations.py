"""Observations of users, made by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import MERGED, POPULARITY, RANKED
from pipeline.quality.observe import PAGE, Observation


def rows(*numbers: int) -> NDArray[np.uint32]:
    return np.array(numbers, dtype=np.uint32)


def observation(
    targets: Sequence[int],
    ranked: Sequence[int] = (),
    *,
    merged: Sequence[int] | None = None,
    proposed: Mapping[str, Sequence[int]] | None = None,
    forbidden: Sequence[int] = (),
    candidates: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    plays: int = 10,
) -> Observation:
    """Return what was seen of one user; candidates and merge order are `ranked` unless given."""
    return Observation(
        plays=plays,
        history=rows(),
        targets=rows(*targets),
        lists={
            RANKED: rows(*ranked),
            PAGE: rows(*ranked[:20]),
            MERGED: rows(*(ranked if merged is None else merged)),
            POPULARITY: rows(),
        },
        proposed={name: rows(*of_source) for name, of_source in (proposed or {}).items()},
        forbidden={"seen": np.isin(rows(*targets), rows(*forbidden))},
        candidates=rows(*(ranked if candidates is None else candidates)),
        scores=None if scores is None else np.array(scores, dtype=np.float32),
        without={},
        exact={},
    )
