"""The ranker's features: defined once, computed by the same code in training and in serving.

How this works: a group computes related columns from one look at the tables; `FEATURE_GROUPS`
lists the groups, and the matrix has their columns in that order. The bundle's schema is the list
of names, so a bundle trained with other features is refused instead of misread. "Missing" is NaN
where nothing is known, which LightGBM sends down a branch of its own, and 0 where nothing means
none. Counts that grow with the log are rates or ranks, so a model trained at a cut still reads
tables that are rebuilt later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.feature_kernels import (
    rank_keys,
    read_stats,
    summarise_cosines,
    summarise_links,
    write_ranks,
)
from services.ranker.domain.values import ItemTables, RankingQuery
from signals.bundle import NO_CODE
from signals.code_tables import sum_by_code
from signals.decay import DAY_S, recency_weights, weights_by_age
from signals.fold_in import fold_in_each
from signals.item_to_item import neighbour_strengths, pair_strengths
from signals.kernel_arrays import for_kernel

Columns = NDArray[np.float32]
"""float32 [features of a group, candidates]."""

SOURCES = ("ann", "similar", "next", "together", "trending")
"""Sources that have features; another one's word reaches the slate, not the model."""

RECENT_PLAYS = 50
"""Plays that links, the regression of the next play and vectors look back on."""
ALL_PLAYS = 200
"""Plays that affinity and companions look back on: the most a request carries."""
NEWEST = 3
"""Plays whose own link to a candidate is a column."""
VECTOR_SCALES = (3.0, 10.0, np.inf)
"""Plays after which a play counts 1/e in a user vector, a feature each."""
RANKED_VECTOR = 10.0
"""The scale whose ranks among the candidates are a feature too."""
ARTIST_SCALE = 20.0
GENRE_SCALES = (0.3, 3.0, 20.0, np.inf)
COSINE_PLAYS = 5
NEWEST_MEAN = 5
"""Newest plays whose releases and places are averaged."""
NAN = float("nan")
LEAST_WEIGHT = 1e-9
NONE = -1
"""No artist has this code: an item without one has a code of its own."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the matrix."""

    name: str
    unit: str
    missing: float
    """Value where nothing is known: no history, no proposal, no times."""
    needs_order: bool = False
    """Says something of recency: missing throughout when the log has no order."""


@dataclass(frozen=True, slots=True)
class FeatureGroup:
    """Columns that are computed together, and left out of training together."""

    name: str
    features: tuple[Feature, ...]
    compute: Callable[[RankingQuery, ItemTables], Columns]


def assemble(query: RankingQuery, tables: ItemTables) -> NDArray[np.float32]:
    """Return the feature matrix of `query`, float32 [candidates, features], C order.

    Raises IndexError for a row beyond the tables: loops would read foreign memory.
    """
    for rows in (query.rows, query.history_rows):
        if rows.max(initial=0) >= tables.n_items:
            raise IndexError(f"row {rows.max()} is beyond {tables.n_items} items")
    columns = np.concatenate([group.compute(query, tables) for group in FEATURE_GROUPS])
    if tables.facts.order == "none":
        columns[NEEDS_ORDER] = np.nan
    return np.ascontiguousarray(columns.T)


def feature_names() -> tuple[str, ...]:
    """Return the names of the matrix's columns, in order."""
    return tuple(feature.name for group in FEATURE_GROUPS for feature in group.features)


def _source_columns(query: RankingQuery, _tables: ItemTables) -> Columns:
    columns = np.full((2 * len(SOURCES), len(query.rows)), np.nan, dtype=np.float32)
    for place, name in enumerate(SOURCES):
        if name in query.sources:
            source = query.sources[name]
            proposed = source.ranks > 0
            np.copyto(columns[2 * place], source.ranks, where=proposed)
            np.copyto(columns[2 * place + 1], source.scores, where=proposed)
    return columns


@dataclass(frozen=True, slots=True)
class Relation:
    """What one kind of link between items says of candidates: columns of one group."""

    prefix: str
    strengths: Callable[[ItemTables, NDArray[np.uint32], NDArray[np.uint32]], NDArray[np.float32]]
    """What each play (rows, newest first) says of each candidate in each of `parts`, float32
    [parts, plays, candidates]."""
    plays: int
    """Newest plays that are asked."""
    unit: str
    scales: tuple[float, ...]
    """Plays after which a link counts 1/e, a column each."""
    ranked: tuple[float, ...]
    """The scales whose ranks among the candidates are columns too."""
    days: tuple[float, ...] = ()
    """Days before the newest play after which a link counts 1/e, a column each, and the rank by the
    last of them; missing where the log has no times."""
    parts: tuple[str, ...] = ("",)
    """What a play says may have parts: a column each where there are several."""
    parts_add_up: bool = True
    """Whether all other columns are of the sum of the parts, or of the first one."""

    def columns(self, query: RankingQuery, tables: ItemTables) -> Columns:
        """Return the columns that `features` names, all NaN without history."""
        columns = np.full((self._n_features(), len(query.rows)), np.nan, dtype=np.float32)
        by_part = self.strengths(tables, query.history_rows[: self.plays], query.rows)
        if by_part.shape[1]:
            adds_up = len(self.parts) > 1 and self.parts_add_up
            links = by_part.sum(axis=0) if adds_up else by_part[0]
            self._write_decayed(links, query, tables, columns)
            own = columns[self._n_decayed() :]
            if len(self.parts) > 1:
                by_part.sum(axis=1, out=own[-len(self.parts) :])
            own[:NEWEST] = 0.0
            own[: len(links)][:NEWEST] = links[:NEWEST]
            summarise_links(links, own[NEWEST : NEWEST + 3])
        return columns

    def _write_decayed(
        self, links: Columns, query: RankingQuery, tables: ItemTables, columns: Columns
    ) -> None:
        """Write the sums of `links` at every scale, and the ranks by some of them."""
        scales, ranks = len(self.scales), len(self.ranked)
        days = len(self.days) if tables.facts.order == "time" else 0
        weights = _weights(len(links), self.scales, tables)
        if days:
            aged = weights_by_age(query.history_ages_s[: len(links)], self.days)
            weights = np.concatenate([weights, aged])
        sums = weights @ links
        columns[:scales] = sums[:scales]
        for place, scale in enumerate(self.ranked, start=scales):
            _write_ranks(sums[self.scales.index(scale)], columns[place])
        if days:
            by_days = columns[scales + ranks :]
            by_days[:days] = sums[scales:]
            _write_ranks(sums[-1], by_days[days])

    def features(self) -> tuple[Feature, ...]:
        """Return the names of the columns, in order."""
        name, unit = self.prefix, self.unit
        rank = "rank from 1 among the candidates"
        return (
            *(Feature(f"{name}_decay_{scale:g}", f"summed {unit}", NAN) for scale in self.scales),
            *(Feature(f"{name}_decay_{scale:g}_rank", rank, NAN) for scale in self.ranked),
            *(
                Feature(f"{name}_days_{days:g}", f"summed {unit}", NAN, needs_order=True)
                for days in self.days
            ),
            *(
                Feature(f"{name}_days_{days:g}_rank", rank, NAN, needs_order=True)
                for days in self.days[-1:]
            ),
            Feature(f"{name}_last", f"{unit} from the newest play", NAN, needs_order=True),
            Feature(f"{name}_second", f"{unit} from the play before it", NAN, needs_order=True),
            Feature(f"{name}_third", f"{unit} from the play before that", NAN, needs_order=True),
            Feature(f"{name}_max", f"greatest {unit}, 0 at least", NAN),
            Feature(f"{name}_count", "recent plays that speak for it", NAN),
            Feature(f"{name}_newest", "plays ago, from 0", NAN, needs_order=True),
            *(Feature(f"{name}_{part}", f"summed {unit}", NAN) for part in self.parts if part),
        )

    def _n_decayed(self) -> int:
        return len(self.scales) + len(self.ranked) + len(self.days) + bool(self.days)

    def _n_features(self) -> int:
        parts = len(self.parts) if len(self.parts) > 1 else 0
        return self._n_decayed() + NEWEST + 3 + parts


def _vector_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    scales = len(VECTOR_SCALES)
    columns = np.full((scales + 4, len(query.rows)), np.nan, dtype=np.float32)
    played = tables.embedding.vectors[query.history_rows[:RECENT_PLAYS]]
    if len(played):
        vectors = tables.embedding.vectors[query.rows]
        products = np.concatenate([_user_vectors(played, tables), played]) @ vectors.T
        columns[:scales] = products[:scales]
        _write_ranks(columns[VECTOR_SCALES.index(RANKED_VECTOR)], columns[scales])
        summarise_cosines(
            products[scales:],
            _squared_lengths(played),
            _squared_lengths(vectors),
            COSINE_PLAYS,
            columns[scales + 1 :],
        )
    return columns


def _item_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    columns = np.empty((8, len(query.rows)), dtype=np.float32)
    stats = tables.stats
    for place, values in enumerate((stats.place, stats.depth, stats.late_share), start=5):
        np.take(values, query.rows, out=columns[place])
    read_stats(
        for_kernel(query.rows),
        for_kernel(tables.stats.share),
        for_kernel(tables.stats.recent_share),
        for_kernel(tables.stats.share_rank),
        for_kernel(tables.stats.first_played_s),
        tables.facts.as_of_s,
        columns,
    )
    return columns


def _release_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    columns = np.full((4, len(query.rows)), np.nan, dtype=np.float32)
    np.take(tables.traits.released, query.rows, out=columns[0])
    newest = tables.traits.released[query.history_rows[:NEWEST_MEAN]]
    if len(newest):
        np.subtract(columns[0], newest[0], out=columns[1])
        np.abs(columns[1], out=columns[2])
        np.subtract(columns[0], newest.mean(), out=columns[3])
    return columns


def _affinity_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    columns = np.empty((2 + len(GENRE_SCALES), len(query.rows)), dtype=np.float32)
    rows, played = for_kernel(query.rows), for_kernel(query.history_rows[:ALL_PLAYS])
    artists, genres = for_kernel(tables.traits.artists), for_kernel(tables.traits.genres)
    weights = for_kernel(_weights(len(played), (ARTIST_SCALE, np.inf), tables))
    sum_by_code(artists[:, None], NONE, played, weights, rows, columns[:2])
    columns[1] /= max(1, len(played))
    weights = for_kernel(_weights(len(played), GENRE_SCALES, tables))
    sum_by_code(genres, NO_CODE, played, weights, rows, columns[2:])
    columns[2:] /= np.maximum(weights.sum(axis=1), LEAST_WEIGHT)[:, None]
    return columns


def _user_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    columns = np.full((5, len(query.rows)), np.nan, dtype=np.float32)
    columns[0] = len(query.history_rows)
    if len(query.history_rows):
        columns[1] = query.history_ages_s[0] / DAY_S
        columns[2] = tables.stats.share_rank[query.history_rows].mean()
        newest = query.history_rows[:NEWEST_MEAN]
        columns[3] = tables.stats.place[newest].mean()
        columns[4] = tables.stats.depth[newest].mean()
    return columns


def _user_vectors(played: NDArray[np.float32], tables: ItemTables) -> NDArray[np.float32]:
    """Return the user's vector at each of `VECTOR_SCALES`, float32 [scales, d]."""
    confidences = np.float32(tables.facts.als_confidence) * _weights(
        len(played), VECTOR_SCALES, tables
    )
    gram, regularization = tables.embedding.gram, tables.facts.als_regularization
    return fold_in_each(played, gram, confidences, regularization)


def _weights(length: int, scales: tuple[float, ...], tables: ItemTables) -> NDArray[np.float32]:
    """Return the weight of each play at each scale, float32 [scales, length], newest play first.

    All alike where the log has no order.
    """
    has_order = tables.facts.order != "none"
    return _most_weights(scales if has_order else (np.inf,) * len(scales))[:, :length]


@cache
def _most_weights(scales: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the weights of as many plays as are looked back on; shorter histories have a part."""
    return np.stack([recency_weights(ALL_PLAYS, scale) for scale in scales])


def _write_ranks(scores: NDArray[np.float32], column: NDArray[np.float32]) -> None:
    """Write 1 for the highest score to n for the lowest; ties in list order."""
    keys = rank_keys(for_kernel(scores))
    keys.sort()  # numpy's sort of whole numbers is vectorised, numba's is not
    write_ranks(keys, column)


def _squared_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors))


RELATIONS = (
    Relation(
        "link",
        lambda tables, plays, rows: neighbour_strengths(tables.neighbours, plays, rows)[None],
        plays=RECENT_PLAYS,
        unit="list share",
        scales=(1.0, 3.0, 10.0, 30.0),
        ranked=(3.0, 10.0),
    ),
    Relation(
        "next",
        lambda tables, plays, rows: pair_strengths(tables.successors, plays, rows),
        plays=RECENT_PLAYS,
        unit="weight as the next play",
        scales=(3.0, 10.0, np.inf),
        ranked=(np.inf,),
        parts=("just_now", "lately", "a_while_ago"),
    ),
    Relation(
        "after",
        lambda tables, plays, rows: pair_strengths(tables.transitions, plays, rows),
        plays=RECENT_PLAYS,
        unit="transitions by popularity^0.3",
        scales=(1.0, 3.0, 10.0),
        ranked=(3.0,),
        parts=("soon", "at_once", "before"),
        parts_add_up=False,
    ),
    Relation(
        "together",
        lambda tables, plays, rows: pair_strengths(tables.companions, plays, rows),
        plays=ALL_PLAYS,
        unit="weight as one that the user has too",
        scales=(5.0, 20.0, np.inf),
        ranked=(20.0,),
        days=(30.0, 90.0),
    ),
)
"""Each with the scales that it alone ranked best at on the validation windows, and some beside.
On 30Music companions that fade with days are worth 5 % of NDCG@20 more than by plays.
What successors say of a play fades by itself: their prediction is the sum."""

FEATURE_GROUPS = (
    FeatureGroup(
        "sources",
        tuple(
            Feature(f"{source}_{said}", unit, NAN)
            for source in SOURCES
            for said, unit in (("rank", "rank from 1"), ("score", "the source's own"))
        ),
        _source_columns,
    ),
    *(
        FeatureGroup(relation.prefix, relation.features(), relation.columns)
        for relation in RELATIONS
    ),
    FeatureGroup(
        "vector",
        (
            *(Feature(f"vector_{scale:g}", "inner product", NAN) for scale in VECTOR_SCALES),
            Feature("vector_10_rank", "rank from 1 among the candidates", NAN),
            Feature("cosine_last", "cosine to the newest play", NAN, needs_order=True),
            Feature("cosine_mean_5", "mean cosine to the newest five plays", NAN, needs_order=True),
            Feature("cosine_max", "greatest cosine to a recent play", NAN),
        ),
        _vector_columns,
    ),
    FeatureGroup(
        "item",
        (
            Feature("item_share_log", "ln of plays per play of the log", NAN),
            Feature("item_share_rank", "0 most played, 1 least", NAN),
            Feature("item_recent_share_log", "ln of plays per recent play of the log", NAN),
            Feature("item_trend", "recent share / share", NAN),
            Feature("item_age_days", "days since its first play", NAN),
            Feature(
                "item_place", "mean place in histories, 0 first to 1 last", NAN, needs_order=True
            ),
            Feature("item_depth", "mean ln of 1 + plays before it", NAN, needs_order=True),
            Feature(
                "item_late_share", "share of plays among users' newest five", NAN, needs_order=True
            ),
        ),
        _item_columns,
    ),
    FeatureGroup(
        "release",
        (
            Feature("item_release_year", "year", NAN),
            Feature(
                "release_since_last", "years after the newest play's release", NAN, needs_order=True
            ),
            Feature(
                "release_apart_last", "years from the newest play's release", NAN, needs_order=True
            ),
            Feature(
                "release_since_5",
                "years after the newest five plays' mean release",
                NAN,
                needs_order=True,
            ),
        ),
        _release_columns,
    ),
    FeatureGroup(
        "affinity",
        (
            Feature("artist_decay", "summed recency weight of the artist's plays", 0.0),
            Feature("artist_share", "share of recent plays", 0.0),
            *(
                Feature(
                    f"genre_decay_{scale:g}", "genres shared with a play, weighed by recency", 0.0
                )
                for scale in GENRE_SCALES
            ),
        ),
        _affinity_columns,
    ),
    FeatureGroup(
        "user",
        (
            Feature("history_plays", "plays, at most 200", 0.0),
            Feature("newest_play_days", "days since the newest play", NAN),
            Feature("history_share_rank", "mean share rank of the plays", NAN),
            Feature("history_place_5", "mean item place of the newest five", NAN, needs_order=True),
            Feature("history_depth_5", "mean item depth of the newest five", NAN, needs_order=True),
        ),
        _user_columns,
    ),
)

NEEDS_ORDER = [
    place
    for place, feature in enumerate(f for group in FEATURE_GROUPS for f in group.features)
    if feature.needs_order
]
