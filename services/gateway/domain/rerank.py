"""Re-rank: one recording once, no artist all over the page, and a full page."""

import math

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.filters import ItemRules, allowed_rows
from services.gateway.domain.values import Merged, Rows, Slate, Subject

MIN_PER_ARTIST = 3
ARTIST_SHARE = 0.15
"""An artist has at most this share of a page, or `MIN_PER_ARTIST`, before others' turn."""

FILL_BLOCK = 1024
"""Popular items looked at a time when a page must be filled."""


def select(ranked: Merged, page_size: int, rules: ItemRules) -> NDArray[np.intp]:
    """Return the places of the page's items in `ranked`, in slate order.

    A second upload of a recording is dropped. Items beyond the artist cap go behind everything
    else rather than away, so that a short list still fills the page.
    """
    first_uploads = _first_uploads(ranked.rows, rules)
    cap = max(MIN_PER_ARTIST, math.ceil(page_size * ARTIST_SHARE))
    turn = _turns(rules.traits.artists[ranked.rows[first_uploads]])
    within = turn < cap
    return np.concatenate([first_uploads[within], first_uploads[~within]])[:page_size]


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
    rows = ranked.rows[selected]
    filling = _popular_rows(rows, page_size - len(rows), subject, rules, popular)
    left_over = np.setdiff1d(np.arange(len(ranked.rows)), selected)
    return Slate(
        rows=np.concatenate([rows, filling]),
        scores=np.concatenate([ranked.scores[selected], np.zeros(len(filling), dtype=np.float32)]),
        places=np.concatenate([selected, np.full(len(filling), -1, dtype=np.intp)]),
        not_selected=ranked.rows[left_over],
    )


def _popular_rows(
    taken: Rows, wanted: int, subject: Subject, rules: ItemRules, popular: Rows
) -> Rows:
    rows = taken
    for start in range(0, len(popular), FILL_BLOCK):
        if len(rows) >= len(taken) + wanted:
            break
        block = popular[start : start + FILL_BLOCK]
        rows = np.concatenate([rows, block[allowed_rows(block, subject, rules)]])
        rows = rows[_first_uploads(rows, rules)]
    return rows[len(taken) : len(taken) + wanted]


def _first_uploads(rows: Rows, rules: ItemRules) -> NDArray[np.intp]:
    """Return the places of the first of `rows` of every recording, in order."""
    return np.sort(np.unique(rules.traits.recordings[rows], return_index=True)[1])


def _turns(codes: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Return for each code how many equal ones stand before it."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(codes)]]))
    turns = np.empty(len(codes), dtype=np.intp)
    turns[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return turns
