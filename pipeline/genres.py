"""Genres of a catalogue as codes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import Catalogue
from signals.bundle import NO_CODE

GENRES_PER_ITEM = 3


def genre_names(catalogue: Catalogue) -> list[str]:
    """Return the genres with most items, names in order; at most what a code can tell apart."""
    counts = Counter(genre for genres in catalogue.genres for genre in genres)
    most = sorted(counts, key=lambda name: (-counts[name], name))[:NO_CODE]
    return sorted(most)


def genre_codes(catalogue: Catalogue, names: Sequence[str]) -> NDArray[np.uint16]:
    """Return every item's first genres, each once, padded with `NO_CODE`: uint16 [n, 3]."""
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.full((len(catalogue.ids), GENRES_PER_ITEM), NO_CODE, dtype=np.uint16)
    for row, genres in enumerate(catalogue.genres):
        known = [code_of[name] for name in dict.fromkeys(genres) if name in code_of]
        first = known[:GENRES_PER_ITEM]
        codes[row, : len(first)] = first
    return codes
