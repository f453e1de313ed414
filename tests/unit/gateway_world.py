"""Small catalogues, subjects and answers for tests of the gateway's domain."""

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.gateway.domain.filters import ItemRules
from services.gateway.domain.history import Plays, compose_history
from services.gateway.domain.values import (
    Merged,
    Rows,
    SourceAnswer,
    SourceColumn,
    SourceStatus,
    Subject,
)
from signals.bundle import (
    MARKET_COLUMNS,
    NO_CODE,
    ItemKeys,
    ItemTraits,
    MarketRights,
    market_column,
)
from signals.keys import item_key, item_keys

CASES = settings(max_examples=50, deadline=None)

NO_ROWS: Rows = np.zeros(0, dtype=np.uint32)


def rows_of(rows: Sequence[int]) -> Rows:
    return np.array(rows, dtype=np.uint32)


def item_ids(n_items: int) -> list[str]:
    """Return the ids of a catalogue in row order."""
    return sorted((f"item-{number}" for number in range(n_items)), key=item_key)


def item_rules(
    n_items: int,
    *,
    artists: Sequence[int] | None = None,
    recordings: Sequence[int] | None = None,
    only_in: Mapping[int, str] | None = None,
) -> ItemRules:
    """Return a catalogue; without a word on it an item has its own artist and recording.

    `only_in` names the one market of the rows that may not be shown everywhere.
    """
    markets = sorted(set((only_in or {}).values()))
    allowed = np.zeros((1 + len(markets), MARKET_COLUMNS), dtype=np.bool_)
    allowed[0] = True
    rights = np.zeros(n_items, dtype=np.uint16)
    for place, market in enumerate(markets, start=1):
        allowed[place, market_column(market)] = True
    for row, market in (only_in or {}).items():
        rights[row] = 1 + markets.index(market)
    own = range(n_items)
    return ItemRules(
        keys=ItemKeys(item_keys(item_ids(n_items))),
        traits=ItemTraits(
            artists=rows_of(own if artists is None else artists),
            recordings=rows_of(own if recordings is None else recordings),
            genres=np.full((n_items, 3), NO_CODE, dtype=np.uint16),
            released=np.full(n_items, np.nan, dtype=np.float32),
            rights=rights,
        ),
        rights=MarketRights(allowed),
    )


def plays_of(rows: Sequence[int], times_s: Sequence[int] | None = None) -> Plays:
    times = [0] * len(rows) if times_s is None else times_s
    return Plays(rows_of(rows), np.array(times, dtype=np.int64))


def subject_of(
    rules: ItemRules,
    *,
    played: Sequence[int] = (),
    excluded: Sequence[int] = (),
    market: str = "",
) -> Subject:
    history = compose_history(plays_of(played), NO_ROWS, rules.keys.keys, now_s=0.0)
    return Subject(history, rows_of(excluded), market, ignored_item_ids=0)


def answer_of(source: str, rows: Sequence[int], scores: Sequence[float] = ()) -> SourceAnswer:
    said = scores or [float(len(rows) - place) for place in range(len(rows))]
    return SourceAnswer(
        source, SourceStatus.OK, rows_of(rows), np.array(said, dtype=np.float32), latency_s=0.001
    )


def ranked_of(rows: Sequence[int]) -> Merged:
    """Return candidates of one source in this order."""
    scores = np.arange(len(rows), 0, -1, dtype=np.float32)
    ranks: NDArray[np.uint32] = np.arange(1, len(rows) + 1, dtype=np.uint32)
    return Merged(rows_of(rows), scores, {"ann": SourceColumn(ranks, scores)})


@st.composite
def source_answers(
    draw: st.DrawFn, *, n_items: int, sources: Sequence[str] = ("ann", "similar", "trending")
) -> tuple[SourceAnswer, ...]:
    """Draw one answer a source, empty ones and rows said twice among them."""
    a_row = st.integers(0, n_items - 1)
    return tuple(answer_of(source, draw(st.lists(a_row, max_size=40))) for source in sources)
