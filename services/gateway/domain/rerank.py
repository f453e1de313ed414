"""Re-rank: one recording once, no artist all over the page, and a full page."""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.filters import ItemRules, allowed_rows
from services.gateway.domain.values import Merged, Rows, Slate, Subject

MIN_PER_ARTIST = 3
ARTIST_SHARE = 0.15
"""An artist has at most this share of a page, or `MIN_PER_ARTIST`, before others' turn."""

FILL_BLOCK = 1024
"""Popular items looked at a time when a page must be filled."""

LOOKED_AT = 64
"""Items whose traits are looked up at a time: a page is mostly full after as many."""


def select(ranked: Merged, page_size: int, rules: ItemRules) -> NDArray[np.intp]:
    """Return the places of the page's items in `ranked`, in slate order.

    A second upload of a recording is dropped. Items beyond the artist cap go behind everything
    else rather than away, so that a short list still fills the page.
    """
    cap = max(MIN_PER_ARTIST, math.ceil(page_size * ARTIST_SHARE))
    within: list[int] = []
    beyond: list[int] = []
    turns: dict[int, int] = {}
    for place, artist in _first_uploads(ranked.rows, rules, set()):
        turn = turns.get(artist, 0)
        turns[artist] = turn + 1
        (within if turn < cap else beyond).append(place)
        if len(within) == page_size:
            break
    return np.array((within + beyond)[:page_size], dtype=np.intp)


def fill(
    ranked: Merged,
    selected: NDArray[np.intp],
    page_size: int,
    subject: Subject,
    rules: ItemRules,
    popular: Rows,
) -> Slate:
    """Return the slate: the selected items, then popular ones until the page is full.

    `selected` holds each recording once, and so does the slate.
    """
    rows, scores, places = ranked.rows.take(selected), ranked.scores.take(selected), selected
    is_left_over = np.ones(len(ranked.rows), dtype=np.bool_)
    is_left_over[selected] = False
    if len(rows) < page_size:
        filling = _popular_rows(rows, page_size - len(rows), subject, rules, popular)
        rows = np.concatenate((rows, filling))
        scores = np.concatenate((scores, np.zeros(len(filling), dtype=np.float32)))
        places = np.concatenate((places, np.full(len(filling), -1, dtype=np.intp)))
    return Slate(rows, scores, places, not_selected=ranked.rows[is_left_over])


def _popular_rows(
    taken: Rows, wanted: int, subject: Subject, rules: ItemRules, popular: Rows
) -> Rows:
    recordings = set(rules.traits.recordings[taken].tolist())
    found: list[int] = []
    for start in range(0, len(popular), FILL_BLOCK):
        block = np.array(popular[start : start + FILL_BLOCK])
        block = block[allowed_rows(block, subject, rules)]
        uploads = _first_uploads(block, rules, recordings)
        found += [int(block[place]) for place, _ in islice(uploads, wanted - len(found))]
        if len(found) == wanted:
            break
    return np.array(found, dtype=np.uint32)


def _first_uploads(rows: Rows, rules: ItemRules, recordings: set[int]) -> Iterator[tuple[int, int]]:
    """Yield place and artist of the first of `rows` of every recording, in order.

    Recordings of the set have had theirs; those that are met are added to it.
    """
    for start in range(0, len(rows), LOOKED_AT):
        block = rows[start : start + LOOKED_AT]
        traits = zip(
            rules.traits.recordings[block].tolist(),
            rules.traits.artists[block].tolist(),
            strict=True,
        )
        for place, (recording, artist) in enumerate(traits, start):
            if recording not in recordings:
                recordings.add(recording)
                yield place, artist
