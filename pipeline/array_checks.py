"""Are a bundle's arrays sound? Shapes, ranges and what the arrays say of each other.

How this works. `SHAPES` gives every array its type and the names of its dimensions: a name that
the facts know has that size, any other takes the size of the first array that has it. The checks
after it read values, since an unchecked row would read foreign memory in a kernel. Tables that
follow from the histories are computed anew: a wrong play, share or rank shows.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.tables import RECENT_WINDOW_S, Tables, item_places
from services.ranker.domain.features import RELATIONS, SOURCES, feature_names
from signals.bundle import MARKET_COLUMNS, NO_CODE, NO_MARKET, ArrayView, PairWeights
from signals.bundle_facts import BundleFacts
from signals.keys import item_key

ORDERS = ("time", "position", "none")
METRIC = "angular"
MAX_DIMENSION = 4096
MAX_KEYS_CHECKED = 200_000
"""Items whose key is computed anew; one takes 1 us. Beyond it a spread sample stands for all."""
MAX_PLAYS_SORTED = 10_000_000
"""Plays from which listeners are counted anew; a million take 0.2 s."""
MAX_SUM_ERROR = 1e-3
"""Of float32 shares that must sum to 1."""
MAX_GRAM_ERROR = 1e-11
"""Of the Gram matrix, relative to its largest entry: sums in another order differ by 1e-14."""
BLOCK_ITEMS = 65_536
MAX_YEAR = 3_000
_CONTINUATION = 0b10  # upper bits of a byte inside a UTF-8 character

Shape = tuple[str, tuple[str, ...]]


def _pair_shapes(view: str) -> Mapping[str, Shape]:
    """Return the shapes of `PairWeights`."""
    scales, items = f"scales of {view.lower()}", f"items with {view.lower()}"
    return {
        f"{view}.places": ("<i4", ("items",)),
        f"{view}.scales": ("<f4", (scales,)),
        f"{view}.rows": ("<u4", (items,)),
        f"{view}.weights": ("<i2", (scales, items, items)),
        f"{view}.units": ("<f4", (scales, items)),
    }


SHAPES: Mapping[str, Shape] = {
    "ItemKeys.keys": ("<u8", ("items",)),
    "ItemTexts.text": ("|u1", ("bytes of texts",)),
    "ItemTexts.offsets": ("<u8", ("3 items + 1",)),
    "ItemTraits.artists": ("<u4", ("items",)),
    "ItemTraits.recordings": ("<u4", ("items",)),
    "ItemTraits.genres": ("<u2", ("items", "genres of an item")),
    "ItemTraits.released": ("<f4", ("items",)),
    "ItemTraits.rights": ("<u2", ("items",)),
    "GenreNames.text": ("|u1", ("bytes of genres",)),
    "GenreNames.offsets": ("<u8", ("genres + 1",)),
    "MarketRights.allowed": ("|b1", ("sets of markets", "markets")),
    "Embedding.vectors": ("<f4", ("items", "dimension")),
    "Embedding.gram": ("<f8", ("dimension", "dimension")),
    "IndexedItems.rows": ("<u4", ("indexed items",)),
    "Neighbours.rows": ("<u4", ("items", "neighbours")),
    "Neighbours.scores": ("<f4", ("items", "neighbours")),
    **_pair_shapes("Successors"),
    **_pair_shapes("Companions"),
    **_pair_shapes("Transitions"),
    "Popularity.rows": ("<u4", ("items",)),
    "ItemStats.share": ("<f4", ("items",)),
    "ItemStats.recent_share": ("<f4", ("items",)),
    "ItemStats.share_rank": ("<f4", ("items",)),
    "ItemStats.first_played_s": ("<i8", ("items",)),
    "ItemStats.place": ("<f4", ("items",)),
    "ItemStats.depth": ("<f4", ("items",)),
    "ItemStats.late_share": ("<f4", ("items",)),
    "Histories.user_keys": ("<u8", ("users",)),
    "Histories.offsets": ("<u8", ("users + 1",)),
    "Histories.rows": ("<u4", ("events",)),
    "Histories.times_s": ("<i8", ("events",)),
    "TrendCounts.markets": ("<u2", ("trends",)),
    "TrendCounts.genres": ("<u2", ("trends",)),
    "TrendCounts.buckets": ("<i8", ("trends",)),
    "TrendCounts.rows": ("<u4", ("trends",)),
    "TrendCounts.counts": ("<i8", ("trends",)),
}


Refuse = Callable[[str, NDArray[np.bool_] | np.bool_, str], None]
"""Raises UnsoundError naming a file and the first list that is wrong, if any is."""


class UnsoundError(ValueError):
    """An array or a fact that cannot be served; the message names the file and the fault."""


@dataclass(frozen=True, slots=True)
class ArrayCheck:
    """One look at the tables; raises UnsoundError."""

    subject: str
    """What it reads, for whoever asks what a check was doing."""
    run: Callable[[Tables], None]


def check_facts(facts: BundleFacts) -> None:
    """Raise UnsoundError unless the facts are of their types and in range."""
    counts = ("as_of_s", "window_start_s", "recent_window_s", "items", "users", "events")
    for name in (*counts, "dimension"):
        value = getattr(facts, name)
        _require(type(value) is int and 0 <= value < 1 << 53, "facts", f"{name} is {value!r}")
    for name in ("als_confidence", "als_regularization"):
        value = getattr(facts, name)
        is_positive = type(value) in (int, float) and math.isfinite(value) and value > 0
        _require(is_positive, "facts", f"{name} is {value!r}, not a positive number")
    _require(facts.order in ORDERS, "facts", f"order is {facts.order!r}, none of {ORDERS}")
    _require(facts.metric == METRIC, "facts", f"metric is {facts.metric!r}, not {METRIC!r}")
    _require(1 <= facts.items < 1 << 32, "facts", f"items is {facts.items}")
    _require(1 <= facts.dimension <= MAX_DIMENSION, "facts", f"dimension is {facts.dimension}")
    _require(facts.window_start_s <= facts.as_of_s, "facts", "the window starts after its end")
    unknown = set(facts.sources) - set(SOURCES)
    _require(
        not unknown and len(set(facts.sources)) == len(facts.sources) > 0,
        "facts",
        f"sources is {facts.sources!r}; each once of {SOURCES} is allowed",
    )
    if facts.features != feature_names():
        raise UnsoundError(
            f"facts: {len(facts.features)} features that are not this program's "
            f"{len(feature_names())}"
        )


def check_shapes(directory: Path, tables: Tables) -> None:
    """Raise UnsoundError unless every array has its type, its shape and the header of both."""
    facts = tables.facts
    parts = {relation.prefix: len(relation.parts) for relation in RELATIONS}
    sizes = {
        "items": facts.items,
        "3 items + 1": 3 * facts.items + 1,
        "genres of an item": 3,
        "markets": MARKET_COLUMNS,
        "dimension": facts.dimension,
        "users": facts.users,
        "users + 1": facts.users + 1,
        "events": facts.events,
        "scales of successors": parts["next"],
        "scales of companions": parts["together"],
        "scales of transitions": parts["after"],
    }
    for name, array in _arrays(tables).items():
        dtype, dimensions = SHAPES[name]
        _require(array.dtype.str == dtype, name, f"holds {array.dtype.str}, not {dtype}")
        _require(array.ndim == len(dimensions), name, f"has {array.ndim} dimensions")
        for dimension, size in zip(dimensions, array.shape, strict=True):
            wanted = sizes.setdefault(dimension, size)
            _require(size == wanted, name, f"has {size} {dimension}; {wanted} are needed")
        _require(array.flags.c_contiguous, name, "stands in columns, not in rows")
        _check_header(directory / f"{name}.npy", array)


def _check_header(path: Path, array: NDArray[np.generic]) -> None:
    """Raise UnsoundError unless the file is what numpy writes for this array, to its end."""
    header = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(header, described)
    written = header.getvalue()
    with path.open("rb") as stream:
        is_same = stream.read(len(written)) == written
    _require(is_same, path.stem, "has a header that numpy does not write")
    size = len(written) + array.nbytes
    found = path.stat().st_size
    _require(found == size, path.stem, f"has {found} bytes; its header asks for {size}")


def _arrays(tables: Tables) -> dict[str, NDArray[np.generic]]:
    return {
        f"{type(view).__name__}.{field.name}": getattr(view, field.name)
        for view in (getattr(tables, field.name) for field in fields(tables))
        if isinstance(view, ArrayView)
        for field in fields(view)
    }


def _check_keys(tables: Tables) -> None:
    keys = tables.keys.keys
    _require((keys[1:] > keys[:-1]).all(), "ItemKeys.keys", "is not strictly increasing")


def _check_texts(tables: Tables) -> None:
    texts, keys = tables.texts, tables.keys.keys
    _check_strings("ItemTexts", texts.text, texts.offsets)
    rows = np.linspace(0, len(keys) - 1, min(MAX_KEYS_CHECKED, len(keys))).astype(np.int64)
    for row in rows.tolist():
        if item_key(texts.item_id(row)) != int(keys[row]):
            raise UnsoundError(
                f"ItemKeys.keys.npy: row {row} is not the key of its id in ItemTexts"
            )


def _check_strings(view: str, text: NDArray[np.uint8], offsets: NDArray[np.uint64]) -> None:
    """Raise UnsoundError unless the offsets part the text into strings of UTF-8."""
    name = f"{view}.offsets"
    _require(len(offsets) > 0 and int(offsets[0]) == 0, name, "does not begin at 0")
    _check_rising(name, offsets, len(text))
    starts = offsets[offsets < len(text)].astype(np.int64)
    is_continued = (text[starts] >> 6) == _CONTINUATION
    _require(not is_continued.any(), name, "begins a string inside a character")
    try:
        text.tobytes().decode()
    except UnicodeDecodeError as exc:
        raise UnsoundError(f"{view}.text.npy: byte {exc.start} is not UTF-8") from exc


def _check_rising(name: str, offsets: NDArray[np.uint64], end: int) -> None:
    _require((offsets[1:] >= offsets[:-1]).all(), name, "falls")
    _require(int(offsets[-1]) == end, name, f"ends at {offsets[-1]}; there are {end}")


def _check_traits(tables: Tables) -> None:
    traits, n_genres = tables.traits, len(tables.genre_names.offsets) - 1
    _check_codes("ItemTraits.artists", traits.artists)
    _check_codes("ItemTraits.recordings", traits.recordings)
    _require(
        int(traits.rights.max()) < len(tables.rights.allowed),
        "ItemTraits.rights",
        f"holds {traits.rights.max()}; there are {len(tables.rights.allowed)} sets of markets",
    )
    released = traits.released
    is_odd = np.isinf(released) | (np.abs(released) > MAX_YEAR)
    _require(not is_odd.any(), "ItemTraits.released", f"row {int(is_odd.argmax())} is no year")
    genres = traits.genres
    _check_genres("ItemTraits.genres", genres, n_genres)
    is_gap = (genres[:, :-1] == NO_CODE) & (genres[:, 1:] != NO_CODE)
    _require(not is_gap.any(), "ItemTraits.genres", "has a genre after none")


def _check_codes(name: str, codes: NDArray[np.uint32]) -> None:
    """Raise UnsoundError unless the codes are 0 to some number, each in use."""
    highest = int(codes.max())
    _require(highest < len(codes), name, f"holds code {highest} for {len(codes)} items")
    is_used = np.bincount(codes, minlength=highest + 1) > 0
    _require(is_used.all(), name, f"leaves out code {int((~is_used).argmax())}")


def _check_genres(name: str, codes: NDArray[np.uint16], n_genres: int) -> None:
    is_wrong = (codes >= n_genres) & (codes != NO_CODE)
    if is_wrong.any():
        raise UnsoundError(f"{name}.npy: holds {codes[is_wrong][0]}; there are {n_genres} genres")


def _check_genre_names(tables: Tables) -> None:
    names = tables.genre_names
    _check_strings("GenreNames", names.text, names.offsets)
    _require(len(names.offsets) <= NO_CODE, "GenreNames.offsets", "has more genres than codes")
    distinct = set(names.names())
    _require(len(distinct) == len(names.offsets) - 1, "GenreNames.text", "names a genre twice")


def _check_rights(tables: Tables) -> None:
    allowed, name = tables.rights.allowed, "MarketRights.allowed"
    _require(len(allowed) > 0, name, "has no set of markets")
    _require((allowed.view(np.uint8) <= 1).all(), name, "holds a byte that is no boolean")
    _require(allowed.any(axis=1).all(), name, "has a set without a market")
    _require(len(np.unique(allowed, axis=0)) == len(allowed), name, "has a set twice")


def _check_embedding(tables: Tables) -> None:
    vectors, gram = tables.embedding.vectors, tables.embedding.gram
    name = "Embedding.vectors"
    rows = tables.indexed.rows
    _check_rows("IndexedItems.rows", rows, len(vectors))
    _require((rows[1:] > rows[:-1]).all(), "IndexedItems.rows", "is not strictly increasing")
    is_indexed = np.zeros(len(vectors), dtype=np.bool_)
    is_indexed[rows] = True
    total = np.zeros(gram.shape)
    for start in range(0, len(vectors), BLOCK_ITEMS):
        block = vectors[start : start + BLOCK_ITEMS].astype(np.float64)
        finite = np.isfinite(block).all(axis=1)
        _require(finite.all(), name, f"row {start + int((~finite).argmax())} is not finite")
        mixed = block.any(axis=1) != is_indexed[start : start + BLOCK_ITEMS]
        row = start + int(mixed.argmax())
        fault = "is zero but indexed" if is_indexed[row] else "is not zero but not indexed"
        _require(not mixed.any(), name, f"row {row} {fault}")
        total += block.T @ block
    _require(np.isfinite(gram).all(), "Embedding.gram", "is not finite")
    error = float(np.abs(gram - total).max(initial=0)) if len(vectors) else 0.0
    is_near = error <= MAX_GRAM_ERROR * max(float(np.abs(total).max()), np.finfo(np.float64).tiny)
    _require(is_near, "Embedding.gram", f"is not that of Embedding.vectors: off by {error:.3g}")


def _check_neighbours(tables: Tables) -> None:
    rows, scores = tables.neighbours.rows, tables.neighbours.scores
    _check_rows("Neighbours.rows", rows, len(rows))
    for start in range(0, len(rows), BLOCK_ITEMS // 8):
        stop = min(start + BLOCK_ITEMS // 8, len(rows))
        _check_lists(np.arange(start, stop), rows[start:stop], scores[start:stop])


def _check_successors(tables: Tables) -> None:
    _check_pair_weights("Successors", tables.successors)


def _check_companions(tables: Tables) -> None:
    _check_pair_weights("Companions", tables.companions)


def _check_transitions(tables: Tables) -> None:
    _check_pair_weights("Transitions", tables.transitions)
    are_counts = (tables.transitions.weights >= 0).all()
    _require(are_counts, "Transitions.weights", "has one below 0, and they are counts")


def _check_pair_weights(view: str, pairs: PairWeights) -> None:
    """Raise UnsoundError unless items are numbered in row order and no item weighs for itself."""
    rows, scales, units = pairs.rows, pairs.scales, pairs.units
    _check_rows(f"{view}.rows", rows, len(pairs.places))
    _require((rows[1:] > rows[:-1]).all(), f"{view}.rows", "does not rise")
    places = np.full(len(pairs.places), -1, dtype=np.int32)
    places[rows] = np.arange(len(rows))
    is_numbered = np.array_equal(pairs.places, places)
    _require(is_numbered, f"{view}.places", "does not number the items of its rows")
    _require(len(scales) and (scales > 0).all(), f"{view}.scales", "has one that is not above 0")
    _require((np.isfinite(units) & (units >= 0)).all(), f"{view}.units", "has one below 0 or none")
    own = np.diagonal(pairs.weights, axis1=1, axis2=2)
    _require(not own.any(), f"{view}.weights", "has an item that weighs for itself")


def _refuser(items: NDArray[np.int64]) -> Refuse:
    """Return what raises UnsoundError naming the first of `items` that is wrong, if any is."""

    def refuse(name: str, is_wrong: NDArray[np.bool_] | np.bool_, fault: str) -> None:
        if is_wrong.any():
            raise UnsoundError(f"{name}.npy: the list of row {items[is_wrong.argmax()]} {fault}")

    return refuse


def _check_lists(
    items: NDArray[np.int64], rows: NDArray[np.uint32], scores: NDArray[np.float32]
) -> None:
    """Raise UnsoundError unless the lists of `items` are best first, ties by row, then padding."""
    refuse = _refuser(items)
    of, said = "Neighbours.rows", "Neighbours.scores"
    refuse(said, ~(np.isfinite(scores) & (scores >= 0)).all(axis=1), "has a score below 0 or none")
    falls = scores[:, 1:] <= scores[:, :-1]
    refuse(said, ~falls.all(axis=1), "is not best first")
    is_used = scores > 0
    _check_listed(refuse, of, items, rows, is_used)
    total = scores.sum(axis=1, dtype=np.float64)
    refuse(said, total > 1 + MAX_SUM_ERROR, "sums to more than 1")
    is_whole = is_used.any(axis=1) & ~is_used.all(axis=1)
    refuse(said, is_whole & (total < 1 - MAX_SUM_ERROR), "is whole and sums to less than 1")


def _check_listed(
    refuse: Refuse,
    name: str,
    items: NDArray[np.int64],
    rows: NDArray[np.uint32],
    is_used: NDArray[np.bool_],
) -> None:
    """Refuse lists with an item twice, with the item itself, or with one in their padding."""
    refuse(name, (~is_used & (rows != 0)).any(axis=1), "holds a row in its padding")
    refuse(name, (is_used & (rows == items[:, None])).any(axis=1), "holds the item itself")
    ordered = np.sort(np.where(is_used, rows.astype(np.int64), -1 - np.arange(rows.shape[1])))
    refuse(name, (ordered[:, 1:] == ordered[:, :-1]).any(axis=1), "holds a row twice")


def _check_histories(tables: Tables) -> None:
    histories, facts = tables.histories, tables.facts
    keys, times_s = histories.user_keys, histories.times_s
    _require((keys[1:] > keys[:-1]).all(), "Histories.user_keys", "is not strictly increasing")
    offsets = histories.offsets
    _require(int(offsets[0]) == 0, "Histories.offsets", "does not begin at 0")
    _check_rising("Histories.offsets", offsets, len(histories.rows))
    _require((offsets[1:] > offsets[:-1]).all(), "Histories.offsets", "has a user without plays")
    _check_rows("Histories.rows", histories.rows, facts.items)
    name = "Histories.times_s"
    if facts.order == "time":
        _require(
            int(times_s.min(initial=facts.as_of_s)) == facts.window_start_s,
            name,
            "does not begin with the window of the facts",
        )
        is_same_user = np.ones(max(0, len(times_s) - 1), dtype=np.bool_)
        is_same_user[offsets[1:-1].astype(np.int64) - 1] = False
        falls = is_same_user & (times_s[1:] < times_s[:-1])
        _require(
            not falls.any(), name, f"play {int(falls.argmax()) + 1} is older than the one before"
        )
    _require((times_s >= 0).all(), name, "holds a time before 1970")
    _require((times_s <= facts.as_of_s).all(), name, "holds a time after the bundle's own")


def _check_stats(tables: Tables) -> None:
    """Raise UnsoundError unless the rates are those of the histories."""
    histories, stats, facts = tables.histories, tables.stats, tables.facts
    n_plays = np.bincount(histories.rows, minlength=facts.items)
    _check_share("ItemStats.share", stats.share, n_plays)
    is_dated = histories.times_s > 0
    is_recent = is_dated & (histories.times_s > facts.as_of_s - RECENT_WINDOW_S)
    recent = np.bincount(histories.rows[is_recent], minlength=facts.items)
    _check_share("ItemStats.recent_share", stats.recent_share, recent)
    _check_share_rank(stats.share_rank, n_plays)
    first_s = np.full(facts.items, np.iinfo(np.int64).max)
    np.minimum.at(first_s, histories.rows[is_dated], histories.times_s[is_dated])
    first_s[first_s == np.iinfo(np.int64).max] = 0
    wrong = stats.first_played_s != first_s
    _require(
        not wrong.any(),
        "ItemStats.first_played_s",
        f"row {int(wrong.argmax())} is not the time of its first play",
    )


def _check_places(tables: Tables) -> None:
    histories, stats = tables.histories, tables.stats
    users = np.repeat(np.arange(tables.facts.users), np.diff(histories.offsets).astype(np.int64))
    for name, wanted in item_places(users, histories.rows, tables.facts.items).items():
        wrong = getattr(stats, name) != wanted
        row = int(wrong.argmax())
        _require(not wrong.any(), f"ItemStats.{name}", f"row {row} is not what the plays say")


def _check_share(name: str, share: NDArray[np.float32], n_plays: NDArray[np.intp]) -> None:
    wanted = (n_plays / max(1, int(n_plays.sum()))).astype(np.float32)
    wrong = share != wanted
    _require(not wrong.any(), name, f"row {int(wrong.argmax())} is not its part of the plays")


def _check_share_rank(ranks: NDArray[np.float32], n_plays: NDArray[np.intp]) -> None:
    places = np.lexsort((np.arange(len(ranks)), -n_plays))
    wanted = (np.arange(len(ranks)) / max(1, len(ranks) - 1)).astype(np.float32)
    wrong = ranks[places] != wanted
    _require(
        not wrong.any(),
        "ItemStats.share_rank",
        f"row {places[wrong.argmax()]} is not its place by plays",
    )


def _check_popularity(tables: Tables) -> None:
    rows, name = tables.popularity.rows, "Popularity.rows"
    _check_rows(name, rows, len(rows))
    _require(
        (np.bincount(rows, minlength=len(rows)) == 1).all(), name, "does not hold every row once"
    )
    histories = tables.histories
    if len(histories.rows) > MAX_PLAYS_SORTED:
        return
    users = np.repeat(np.arange(tables.facts.users), np.diff(histories.offsets).astype(np.int64))
    pairs = np.unique(users * tables.facts.items + histories.rows)
    listeners = np.bincount(pairs % tables.facts.items, minlength=len(rows))[rows]
    rises = (listeners[1:] > listeners[:-1]) | (
        (listeners[1:] == listeners[:-1]) & (rows[1:] < rows[:-1])
    )
    _require(
        not rises.any(),
        name,
        f"place {int(rises.argmax()) + 1} has more listeners than the one before",
    )


def _check_trends(tables: Tables) -> None:
    trends = tables.trends
    _check_rows("TrendCounts.rows", trends.rows, tables.facts.items)
    _check_genres("TrendCounts.genres", trends.genres, len(tables.genre_names.offsets) - 1)
    is_market = (trends.markets < MARKET_COLUMNS) | (trends.markets == NO_MARKET)
    _require(is_market.all(), "TrendCounts.markets", "holds a column that is no market")
    is_count = (trends.counts > 0) & (trends.counts <= tables.facts.users)
    _require(is_count.all(), "TrendCounts.counts", "holds a count that is no number of users")
    is_before = (trends.buckets >= 0) & (trends.buckets <= tables.facts.as_of_s)
    _require(is_before.all(), "TrendCounts.buckets", "holds a bucket after the bundle's own time")
    is_same = np.ones(max(0, len(trends.rows) - 1), dtype=np.bool_)
    for column in (trends.markets, trends.genres, trends.buckets):
        is_same &= column[1:] == column[:-1]
    rises = trends.counts[1:] > trends.counts[:-1]
    _require(not (is_same & rises).any(), "TrendCounts.counts", "is not greatest first")
    is_tie = is_same & (trends.counts[1:] == trends.counts[:-1])
    falls = trends.rows[1:] <= trends.rows[:-1]
    _require(not (is_tie & falls).any(), "TrendCounts.rows", "is not in order where counts tie")
    _check_segments(tables)


def _check_segments(tables: Tables) -> None:
    """Raise UnsoundError unless every segment stands together, its buckets oldest first."""
    trends = tables.trends
    codes = trends.markets.astype(np.int64) << 16 | trends.genres
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    is_apart = len(np.unique(codes)) != len(starts)
    _require(not is_apart, "TrendCounts.markets", "or .genres: a segment stands in two places")
    falls = (codes[1:] == codes[:-1]) & (trends.buckets[1:] < trends.buckets[:-1])
    _require(not falls.any(), "TrendCounts.buckets", "is not oldest first")


def _check_rows(name: str, rows: NDArray[np.uint32], n_items: int) -> None:
    if rows.size and int(rows.max()) >= n_items:
        raise UnsoundError(f"{name}.npy: holds row {int(rows.max())}; rows are below {n_items}")


def _require(holds: object, name: str, fault: str) -> None:
    """Raise UnsoundError unless `holds`; `name` is an array's, or "facts"."""
    if not holds:
        raise UnsoundError(f"{name if name == 'facts' else f'{name}.npy'}: {fault}")


ARRAY_CHECKS = (
    ArrayCheck("ItemKeys", _check_keys),
    ArrayCheck("ItemTexts", _check_texts),
    ArrayCheck("GenreNames", _check_genre_names),
    ArrayCheck("MarketRights", _check_rights),
    ArrayCheck("ItemTraits", _check_traits),
    ArrayCheck("Embedding", _check_embedding),
    ArrayCheck("Neighbours", _check_neighbours),
    ArrayCheck("Successors", _check_successors),
    ArrayCheck("Companions", _check_companions),
    ArrayCheck("Transitions", _check_transitions),
    ArrayCheck("Histories", _check_histories),
    ArrayCheck("ItemStats", _check_stats),
    ArrayCheck("ItemStats", _check_places),
    ArrayCheck("Popularity", _check_popularity),
    ArrayCheck("TrendCounts", _check_trends),
)
"""In the order in which one may rely on another."""
