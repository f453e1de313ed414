"""The loop behind `link_strengths`. Rows are trusted: one beyond a table reads foreign memory."""

from typing import Any

from numba import njit

from signals.code_places import NOWHERE, place_of, places_of


@njit(nogil=True, cache=True, error_model="numpy")
def fill_strengths(rows: Any, scores: Any, recent: Any, candidates: Any, strengths: Any) -> None:
    """Write to `strengths` (float32 [recent, candidates], zeros) what the lists say.

    `rows` and `scores` are those of `Neighbours`.
    """
    slots = places_of(candidates)
    for play in range(len(recent)):
        listed, scored, found = rows[recent[play]], scores[recent[play]], strengths[play]
        for entry in range(len(listed)):
            place = place_of(slots, candidates, listed[entry])
            if place != NOWHERE and scored[entry] > 0:
                found[place] = scored[entry]
