"""Typed views of a bundle's arrays: what each file holds, how it is written, how it is mapped.

The publisher writes these files and every server maps them read-only, so N workers share one
copy. Rows are places in key order: `ItemKeys.keys` is sorted, and the row of an item is the place
of its key in it. That order says nothing of popularity or age, so neither can leak into a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Self

import numpy as np
from numpy.typing import NDArray

from signals.keys import item_keys

NO_CODE = 0xFFFF
"""Genre code of "none"; names are fewer than this."""

NO_MARKET = 0xFFFF
"""Market column of "none"."""

LEAST_FADE = np.float32(1e-4)
"""What a play counts at least, or nothing: half of the rows of weights need not be read then."""


@dataclass(frozen=True, slots=True)
class ArrayView:
    """Arrays that belong together, a file each: `<view>.<field>.npy`."""

    def write(self, directory: Path) -> None:
        """Write every array of this view into `directory`."""
        for field in fields(self):
            array = np.ascontiguousarray(getattr(self, field.name))
            np.save(directory / self._file_name(field.name), array, allow_pickle=False)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map this view's files of `directory` read-only.

        Raises OSError or ValueError, which name the file.
        """
        return cls(**{f.name: _map(directory / cls._file_name(f.name)) for f in fields(cls)})

    @classmethod
    def file_names(cls) -> tuple[str, ...]:
        """Return the names of this view's files."""
        return tuple(cls._file_name(field.name) for field in fields(cls))

    @classmethod
    def _file_name(cls, field: str) -> str:
        return f"{cls.__name__}.{field}.npy"


@dataclass(frozen=True, slots=True)
class ItemKeys(ArrayView):
    """The key of every item; a row is a place in this order."""

    keys: NDArray[np.uint64]
    """uint64 [n], strictly increasing."""

    def rows_of_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each of `keys`, -1 where the bundle has none; int64 [len(keys)]."""
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1).astype(np.int64)

    def rows_of_ids(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each external id, -1 where the bundle has none; int64 [len(ids)]."""
        return self.rows_of_keys(item_keys(ids))


@dataclass(frozen=True, slots=True)
class ItemTexts(ArrayView):
    """External id, title and artist of every item, as UTF-8 bytes end to end."""

    text: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    """uint64 [3 * n + 1]; id, title and artist of row r are strings 3r, 3r + 1 and 3r + 2."""

    @classmethod
    def of(cls, ids: Sequence[str], titles: Sequence[str], artists: Sequence[str]) -> Self:
        """Return the texts of parallel columns; an unknown title or artist is empty."""
        rows = zip(ids, titles, artists, strict=True)
        return cls(*_pack([string for row in rows for string in row]))

    def of_rows(self, rows: NDArray[np.uint32]) -> Iterator[tuple[str, str, str]]:
        """Yield id, title and artist of each of `rows`, in their order."""
        first = rows.astype(np.intp) * 3
        bounds = self.offsets[first[:, None] + np.arange(4)].tolist()
        for start, title, artist, end in bounds:
            text = self.text[start:end].tobytes()
            title_at, artist_at = title - start, artist - start
            yield (
                text[:title_at].decode(),
                text[title_at:artist_at].decode(),
                text[artist_at:].decode(),
            )

    def item_id(self, row: int) -> str:
        """Return the external id of `row`."""
        return self._string(3 * row)

    def title(self, row: int) -> str:
        """Return the title of `row`, empty where unknown."""
        return self._string(3 * row + 1)

    def artist(self, row: int) -> str:
        """Return the artist of `row`, empty where unknown."""
        return self._string(3 * row + 2)

    def _string(self, place: int) -> str:
        return self.text[int(self.offsets[place]) : int(self.offsets[place + 1])].tobytes().decode()


@dataclass(frozen=True, slots=True)
class ItemTraits(ArrayView):
    """What filters and features know of items."""

    artists: NDArray[np.uint32]
    """uint32 [n]; items of one artist share a code, an item without one has a code of its own."""
    recordings: NDArray[np.uint32]
    """uint32 [n]; uploads with the same title and artist share a code."""
    genres: NDArray[np.uint16]
    """uint16 [n, 3]; genre codes, the item's first three, padded with `NO_CODE`."""
    released: NDArray[np.float32]
    """float32 [n]; the year of release, as 1994.5, NaN where unknown."""
    rights: NDArray[np.uint16]
    """uint16 [n]; which of `MarketRights.allowed` says where the item may be shown."""


@dataclass(frozen=True, slots=True)
class MarketRights(ArrayView):
    """The distinct sets of markets that items may be shown in: few, however many items."""

    allowed: NDArray[np.bool_]
    """bool [sets, 676]; column m is the market of `market_column`."""

    def may_show(self, rights: NDArray[np.uint16], market: str) -> NDArray[np.bool_]:
        """Return for each of `rights` whether it admits `market` (alpha-2, upper case)."""
        return np.asarray(self.allowed[rights, market_column(market)])


MARKET_COLUMNS = 26 * 26  # every two-letter code


def market_column(market: str) -> int:
    """Return the column of an ISO 3166-1 alpha-2 code, upper case, in `MarketRights.allowed`."""
    return (ord(market[0]) - ord("A")) * 26 + ord(market[1]) - ord("A")


def market_name(column: int) -> str:
    """Return the code whose column this is."""
    return chr(ord("A") + column // 26) + chr(ord("A") + column % 26)


@dataclass(frozen=True, slots=True)
class GenreNames(ArrayView):
    """Names of the genre codes, as UTF-8 bytes end to end."""

    text: NDArray[np.uint8]
    offsets: NDArray[np.uint64]

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Return the names in code order."""
        return cls(*_pack(names))

    def names(self) -> tuple[str, ...]:
        """Return every name, in code order."""
        blob, ends = self.text.tobytes(), self.offsets.tolist()
        return tuple(blob[a:b].decode() for a, b in pairwise(ends))


@dataclass(frozen=True, slots=True)
class Embedding(ArrayView):
    """Item vectors and what fold-in needs of them."""

    vectors: NDArray[np.float32]
    """float32 [n, d], as ALS left them."""
    gram: NDArray[np.float64]
    """float64 [d, d], the vectors' Y'Y."""


@dataclass(frozen=True, slots=True)
class Neighbours(ArrayView):
    """For every item the items that tend to be played near it."""

    rows: NDArray[np.uint32]
    """uint32 [n, k], padded with row 0 where the score is 0."""
    scores: NDArray[np.float32]
    """float32 [n, k], > 0, not increasing, then zeros."""


@dataclass(frozen=True, slots=True)
class PairWeights(ArrayView):
    """What a play of one item says for or against another, of the items that take part.

    weights[s, i, j] * units[s, i] is what a play of item i says of item j, as it counts for scale
    s; i and j are places among those that take part.
    """

    places: NDArray[np.int32]
    """int32 [n], the place of each item among those that take part, -1 where it does not."""
    scales: NDArray[np.float32]
    """float32 [s], above 0: the plays after which a play counts 1/e, infinite where it never
    fades."""
    rows: NDArray[np.uint32]
    """uint32 [m], the items that take part, rising."""
    weights: NDArray[np.int16]
    """int16 [s, m, m], 0 of an item for itself."""
    units: NDArray[np.float32]
    """float32 [s, m], not below 0: the step that weights are rounded to."""

    def places_of(self, rows: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Return the place of each of `rows`, -1 for what takes no part.

        Raises IndexError for a row beyond the items.
        """
        return np.asarray(self.places[rows])

    def fades(self, plays: int) -> NDArray[np.float32]:
        """Return what each of `plays` counts at each scale, newest first, float32 [s, plays].

        What is below `LEAST_FADE` is 0.
        """
        fades = np.exp(-np.arange(plays, dtype=np.float32) / self.scales[:, None])
        return np.where(fades < LEAST_FADE, np.float32(0), fades)


@dataclass(frozen=True, slots=True)
class Successors(PairWeights):
    """Regression of the next play on the plays before it, at three scales."""


@dataclass(frozen=True, slots=True)
class Companions(PairWeights):
    """Regression of what a user has on what else the user has: one scale, that never fades."""


@dataclass(frozen=True, slots=True)
class Transitions(PairWeights):
    """How often one item was played soon after another, right after it, and before it."""


@dataclass(frozen=True, slots=True)
class IndexedItems(ArrayView):
    """Which items the nearest-neighbour index holds: those with a vector."""

    rows: NDArray[np.uint32]
    """uint32 [m]; row of each of the index's own numbers."""


@dataclass(frozen=True, slots=True)
class Popularity(ArrayView):
    """Every item, the one with most listeners first: what fills a page at last."""

    rows: NDArray[np.uint32]
    """uint32 [n]."""


@dataclass(frozen=True, slots=True)
class ItemStats(ArrayView):
    """Rates and times of every item; rates rather than counts, since tables grow."""

    share: NDArray[np.float32]
    """float32 [n], plays of the item per play in the log."""
    recent_share: NDArray[np.float32]
    """float32 [n], the same over the newest part of the log (`BundleFacts.recent_window_s`)."""
    share_rank: NDArray[np.float32]
    """float32 [n], 0 for the most played item to 1 for the least."""
    first_played_s: NDArray[np.int64]
    """int64 [n], unix seconds; 0 where the log has no times."""
    place: NDArray[np.float32]
    """float32 [n], mean over its plays of plays before it / plays of that user, in [0, 1); 0 for
    an item without plays. What is played late in a long life of listening is known to few."""
    depth: NDArray[np.float32]
    """float32 [n], mean over its plays of ln(1 + plays of that user before it)."""
    late_share: NDArray[np.float32]
    """float32 [n], share of its plays that are among the newest five of their user."""


@dataclass(frozen=True, slots=True)
class TrendCounts(ArrayView):
    """Listeners per segment, bucket and item as of the bundle: what fills a fresh DynamoDB.

    Parallel columns; segments by listening, everywhere first, then buckets oldest first, then
    items by listeners.
    """

    markets: NDArray[np.uint16]
    """`market_column`, or `NO_MARKET` for all markets together."""
    genres: NDArray[np.uint16]
    """Genre code, or `NO_CODE` for all genres together."""
    buckets: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histories(ArrayView):
    """Every user's plays, oldest first: the embedded default of the history port."""

    user_keys: NDArray[np.uint64]
    """uint64 [u], strictly increasing."""
    offsets: NDArray[np.uint64]
    """uint64 [u + 1]; the plays of user i are rows[offsets[i]:offsets[i + 1]]."""
    rows: NDArray[np.uint32]
    times_s: NDArray[np.int64]
    """int64, unix seconds, parallel to rows; 0 where the log has no times."""

    def of(self, user_key: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return rows and times of one user, oldest first; empty for an unknown one."""
        key = np.uint64(user_key)
        place = int(np.searchsorted(self.user_keys, key))
        if place == len(self.user_keys) or self.user_keys[place] != key:
            return self.rows[:0], self.times_s[:0]
        span = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        return self.rows[span], self.times_s[span]


def _pack(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    encoded = [string.encode() for string in strings]
    offsets = np.zeros(len(encoded) + 1, dtype=np.uint64)
    np.cumsum([len(part) for part in encoded], out=offsets[1:], dtype=np.uint64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def _map(path: Path) -> NDArray[np.generic]:
    try:
        return np.asarray(np.load(path, allow_pickle=False, mmap_mode="r"))
    except (EOFError, TokenError, ValueError) as exc:
        raise ValueError(f"{path} is not an array: {exc}") from exc
