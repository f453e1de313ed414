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

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.values import ItemTables, RankingQuery
from signals.bundle import NO_CODE
from signals.decay import recency_weights
from signals.fold_in import fold_in
from signals.item_to_item import link_strengths

Columns = NDArray[np.float32]
"""float32 [features of a group, candidates]."""

SOURCES = ("ann", "similar", "trending")
"""Sources that have features; another one's word reaches the slate, not the model."""

RECENT_PLAYS = 50
"""Plays that links and vectors look back on."""
AFFINITY_PLAYS = 200
"""Plays that artist and genre affinity look back on: the most a request carries."""
LINK_SCALES = (1.0, 3.0, 10.0, 30.0)
"""Plays after which a link counts 1/e, a feature each."""
VECTOR_SCALES = (3.0, 10.0, np.inf)
"""The same for user vectors."""
AFFINITY_SCALE = 20.0
COSINE_PLAYS = 5
DAY_S = 86_400.0


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
    """Columns that are computed together."""

    features: tuple[Feature, ...]
    compute: Callable[[RankingQuery, ItemTables], Columns]


def assemble(query: RankingQuery, tables: ItemTables) -> NDArray[np.float32]:
    """Return the feature matrix of `query`, float32 [candidates, features], C order."""
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
            columns[2 * place, proposed] = source.ranks[proposed]
            columns[2 * place + 1, proposed] = source.scores[proposed]
    return columns


def _link_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    links = link_strengths(tables.neighbours, query.history_rows[:RECENT_PLAYS], query.rows)
    if not len(links):
        return np.full((len(LINK_SCALES) + 6, len(query.rows)), np.nan, dtype=np.float32)
    decayed = [_weights(len(links), scale, tables) @ links for scale in LINK_SCALES]
    linked = links > 0
    newest = np.where(linked.any(axis=0), linked.argmax(axis=0), np.nan)
    return np.stack(
        [
            *decayed,
            _rank_in_list(decayed[2]),
            _nth(links, 0),
            _nth(links, 1),
            links.max(axis=0),
            linked.sum(axis=0),
            newest,
        ]
    ).astype(np.float32)


def _vector_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    recent = query.history_rows[:RECENT_PLAYS]
    if not len(recent):
        return np.full((len(VECTOR_SCALES) + 4, len(query.rows)), np.nan, dtype=np.float32)
    vectors = tables.embedding.vectors[query.rows]
    played = tables.embedding.vectors[recent]
    scores = [vectors @ _user_vector(played, tables, scale) for scale in VECTOR_SCALES]
    cosines = _unit(vectors) @ _unit(played).T
    return np.stack(
        [
            *scores,
            _rank_in_list(scores[1]),
            cosines[:, 0],
            cosines[:, :COSINE_PLAYS].mean(axis=1),
            cosines.max(axis=1),
        ]
    ).astype(np.float32)


def _item_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    share = tables.stats.share[query.rows]
    recent_share = tables.stats.recent_share[query.rows]
    first_s = tables.stats.first_played_s[query.rows]
    age_days = np.where(first_s > 0, (tables.facts.as_of_s - first_s) / DAY_S, np.nan)
    floor = np.float32(1e-9)  # below one play in a log of a billion
    return np.stack(
        [
            np.log(np.maximum(share, floor)),
            tables.stats.share_rank[query.rows],
            np.log(np.maximum(recent_share, floor)),
            np.where(share > 0, recent_share / np.maximum(share, floor), np.nan),
            age_days,
        ]
    ).astype(np.float32)


def _affinity_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    played = query.history_rows[:AFFINITY_PLAYS]
    weights = _weights(len(played), AFFINITY_SCALE, tables)
    artists = tables.traits.artists
    decayed = _weight_by_code(artists[played], weights, artists[query.rows])
    plays = _weight_by_code(artists[played], np.ones_like(weights), artists[query.rows])
    genre = _genre_overlap(tables.traits.genres[played], weights, tables.traits.genres[query.rows])
    return np.stack([decayed, plays / max(1, len(played)), genre]).astype(np.float32)


def _user_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    columns = np.full((3, len(query.rows)), np.nan, dtype=np.float32)
    columns[0] = len(query.history_rows)
    if len(query.history_rows):
        columns[1] = query.history_ages_s[0] / DAY_S
        columns[2] = tables.stats.share_rank[query.history_rows].mean()
    return columns


def _user_vector(
    played: NDArray[np.float32], tables: ItemTables, scale: float
) -> NDArray[np.float32]:
    confidence = np.float32(tables.facts.als_confidence) * _weights(len(played), scale, tables)
    return fold_in(played, tables.embedding.gram, confidence, tables.facts.als_regularization)


def _weights(length: int, scale: float, tables: ItemTables) -> NDArray[np.float32]:
    """Return the weight of each play, newest first; all alike where the log has no order."""
    return recency_weights(length, np.inf if tables.facts.order == "none" else scale)


def _rank_in_list(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 for the highest score to n for the lowest; ties in list order."""
    ranks = np.empty(len(scores), dtype=np.float32)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1, dtype=np.float32)
    return ranks


def _nth(links: NDArray[np.float32], place: int) -> NDArray[np.float32]:
    return links[place] if place < len(links) else np.zeros(links.shape[1], dtype=np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def _weight_by_code(
    codes: NDArray[np.unsignedinteger],
    weights: NDArray[np.float32],
    wanted: NDArray[np.unsignedinteger],
) -> NDArray[np.float64]:
    """Return for each of `wanted` the summed weight of `codes` that equal it."""
    if not len(codes):
        return np.zeros(len(wanted))
    known, inverse = np.unique(codes, return_inverse=True)
    totals = np.bincount(inverse, weights=weights, minlength=len(known))
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, totals[place], 0.0)


def _genre_overlap(
    played: NDArray[np.uint16], weights: NDArray[np.float32], wanted: NDArray[np.uint16]
) -> NDArray[np.float64]:
    """Return for each of `wanted` ([c, 3] genre codes) the share of played weight in its genres."""
    present = played != NO_CODE
    spread = np.repeat(weights[:, None], played.shape[1], axis=1)[present]
    by_genre = _weight_by_code(played[present], spread, wanted.ravel()).reshape(wanted.shape)
    return np.asarray(by_genre.sum(axis=1) / max(float(spread.sum()), 1e-9))


def _group(
    compute: Callable[[RankingQuery, ItemTables], Columns], *features: Feature
) -> FeatureGroup:
    return FeatureGroup(features, compute)


NAN = float("nan")

FEATURE_GROUPS = (
    _group(
        _source_columns,
        *(
            Feature(f"{source}_{said}", unit, NAN)
            for source in SOURCES
            for said, unit in (("rank", "rank from 1"), ("score", "the source's own"))
        ),
    ),
    _group(
        _link_columns,
        *(Feature(f"link_decay_{scale:g}", "summed list share", NAN) for scale in LINK_SCALES),
        Feature("link_decay_10_rank", "rank from 1 among the candidates", NAN),
        Feature("link_last", "list share from the newest play", NAN, needs_order=True),
        Feature("link_second", "list share from the play before it", NAN, needs_order=True),
        Feature("link_max", "list share", NAN),
        Feature("link_count", "recent plays that link here", NAN),
        Feature("link_newest", "plays ago, from 0", NAN, needs_order=True),
    ),
    _group(
        _vector_columns,
        *(Feature(f"vector_{scale:g}", "inner product", NAN) for scale in VECTOR_SCALES),
        Feature("vector_10_rank", "rank from 1 among the candidates", NAN),
        Feature("cosine_last", "cosine to the newest play", NAN, needs_order=True),
        Feature("cosine_mean_5", "mean cosine to the newest five plays", NAN, needs_order=True),
        Feature("cosine_max", "greatest cosine to a recent play", NAN),
    ),
    _group(
        _item_columns,
        Feature("item_share_log", "ln of plays per play of the log", NAN),
        Feature("item_share_rank", "0 most played, 1 least", NAN),
        Feature("item_recent_share_log", "ln of plays per recent play of the log", NAN),
        Feature("item_trend", "recent share / share", NAN),
        Feature("item_age_days", "days since its first play", NAN),
    ),
    _group(
        _affinity_columns,
        Feature("artist_decay", "summed recency weight of the artist's plays", 0.0),
        Feature("artist_share", "share of recent plays", 0.0),
        Feature("genre_overlap", "share of recency weight in the item's genres", 0.0),
    ),
    _group(
        _user_columns,
        Feature("history_plays", "plays, at most 200", 0.0),
        Feature("newest_play_days", "days since the newest play", NAN),
        Feature("history_share_rank", "mean share rank of the plays", NAN),
    ),
)

NEEDS_ORDER = [
    place
    for place, feature in enumerate(f for group in FEATURE_GROUPS for f in group.features)
    if feature.needs_order
]
