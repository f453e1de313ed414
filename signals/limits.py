"""Limits of the mesh's messages, and what is wrong with arrays that break them."""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from signals.bloom import check_filter

MAX_HISTORY_PLAYS = 200
MAX_CANDIDATES = 2_000
MAX_EXCLUDED = 1_000
MAX_SOURCES = 16
MAX_ID_BYTES = 256

_MARKET = re.compile(r"[A-Z]{2}")


def is_market(text: str) -> bool:
    """Tell whether `text` has the form of an ISO 3166-1 alpha-2 code, or is empty."""
    return not text or _MARKET.fullmatch(text) is not None


MARKET_FAULT = "must be two upper-case letters (ISO 3166-1 alpha-2) or empty"


def row_faults(
    field: str, rows: NDArray[np.uint32], n_items: int, limit: int
) -> Iterator[tuple[str, str]]:
    """Yield (field, fault) where `rows` are too many or not rows of a bundle of `n_items`."""
    if len(rows) > limit:
        yield field, f"has {len(rows)} entries; at most {limit} are allowed"
    if len(rows) and int(rows.max()) >= n_items:
        yield field, f"holds row {int(rows.max())}; the bundle's rows are below {n_items}"


def history_faults(
    rows: NDArray[np.uint32], ages_s: NDArray[np.float32], seen_filter: bytes, n_items: int
) -> Iterator[tuple[str, str]]:
    """Yield (field, fault) for every limit that a history message breaks."""
    yield from row_faults("history.rows", rows, n_items, MAX_HISTORY_PLAYS)
    if len(ages_s) != len(rows):
        yield "history.ages_s", f"has {len(ages_s)} entries; one a row, {len(rows)}, are needed"
    if not (np.isfinite(ages_s) & (ages_s >= 0)).all():
        yield "history.ages_s", "holds a value that is negative or not finite"
    try:
        check_filter(seen_filter)
    except ValueError as exc:
        yield "history.seen_filter", str(exc)
