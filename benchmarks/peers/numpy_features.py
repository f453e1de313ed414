"""The ranker's features as numpy gives them: what stock parts cost, and what tests compare with.

The same columns as `services.ranker.domain.features`, written without compiled loops.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.ranker.domain.features import (
    ALL_PLAYS,
    ARTIST_SCALE,
    COSINE_PLAYS,
    GENRE_SCALES,
    NEEDS_ORDER,
    NEWEST,
    NEWEST_MEAN,
    RECENT_PLAYS,
    RELATIONS,
    SOURCES,
    VECTOR_SCALES,
    Columns,
    Relation,
)
from services.ranker.domain.values import ItemTables, RankingQuery
from signals.bundle import NO_CODE, Neighbours, PairWeights
from signals.decay import DAY_S, recency_weights


def assemble(query: RankingQuery, tables: ItemTables) -> NDArray[np.float32]:
    """Return the feature matrix of `query`, float32 [candidates, features], C order."""
    columns = np.concatenate([compute(query, tables) for compute in COMPUTED])
    if tables.facts.order == "none":
        columns[NEEDS_ORDER] = np.nan
    return np.ascontiguousarray(columns.T)


def _source_columns(query: RankingQuery, _tables: ItemTables) -> Columns:
    columns = np.full((2 * len(SOURCES), len(query.rows)), np.nan, dtype=np.float32)
    for place, name in enumerate(SOURCES):
        if name in query.sources:
            source = query.sources[name]
            proposed = source.ranks > 0
            columns[2 * place, proposed] = source.ranks[proposed]
            columns[2 * place + 1, proposed] = source.scores[proposed]
    return columns


def _relation_columns(relation: Relation, query: RankingQuery, tables: ItemTables) -> Columns:
    by_part = _strengths(relation, query.history_rows[: relation.plays], query.rows, tables)
    links = by_part.sum(axis=0) if relation.parts_add_up else by_part[0]
    if not len(links):
        return np.full((len(relation.features()), len(query.rows)), np.nan, dtype=np.float32)
    # One product for all scales, as the mesh makes it: a product for each rounds otherwise.
    weights = [_weights(len(links), scale, tables) for scale in relation.scales]
    if tables.facts.order == "time":
        ages_s = query.history_ages_s[: len(links)]
        ages_days = (ages_s - ages_s.min()) / np.float32(DAY_S)
        weights += [np.exp(-ages_days / np.float32(days)) for days in relation.days]
    sums = np.stack(weights) @ links
    by_plays, aged = np.split(sums, [len(relation.scales)])
    decayed = dict(zip(relation.scales, by_plays, strict=True))
    unknown = np.full(len(query.rows), np.nan, dtype=np.float32)
    linked = links > 0
    newest = np.where(linked.any(axis=0), linked.argmax(axis=0), np.nan)
    return np.stack(
        [
            *decayed.values(),
            *(_rank_in_list(decayed[scale]) for scale in relation.ranked),
            *(aged if len(aged) else [unknown for _ in relation.days]),
            *(_rank_in_list(aged[-1]) if len(aged) else unknown for _ in relation.days[-1:]),
            *(_nth(links, place) for place in range(NEWEST)),
            np.maximum(links.max(axis=0), 0),
            linked.sum(axis=0),
            newest,
            *(by_part.sum(axis=1) if len(by_part) > 1 else ()),
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
            np.log(np.maximum(share, floor), dtype=np.float64),
            tables.stats.share_rank[query.rows],
            np.log(np.maximum(recent_share, floor), dtype=np.float64),
            np.where(share > 0, recent_share / np.maximum(share, floor), np.nan),
            age_days,
            tables.stats.place[query.rows],
            tables.stats.depth[query.rows],
            tables.stats.late_share[query.rows],
        ]
    ).astype(np.float32)


def _release_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    released = tables.traits.released[query.rows]
    newest = tables.traits.released[query.history_rows[:NEWEST_MEAN]]
    unknown = np.full(len(released), np.nan, dtype=np.float32)
    if not len(newest):
        return np.stack([released, unknown, unknown, unknown])
    since = released - newest[0]
    return np.stack([released, since, np.abs(since), released - newest.mean()])


def _affinity_columns(query: RankingQuery, tables: ItemTables) -> Columns:
    played = query.history_rows[:ALL_PLAYS]
    weights = _weights(len(played), ARTIST_SCALE, tables)
    artists = tables.traits.artists
    decayed = _weight_by_code(artists[played], weights, artists[query.rows])
    plays = _weight_by_code(artists[played], np.ones_like(weights), artists[query.rows])
    genres = tables.traits.genres
    shares = [
        _genre_overlap(genres[played], _weights(len(played), scale, tables), genres[query.rows])
        for scale in GENRE_SCALES
    ]
    return np.stack([decayed, plays / max(1, len(played)), *shares]).astype(np.float32)


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


def _user_vector(
    played: NDArray[np.float32], tables: ItemTables, scale: float
) -> NDArray[np.float32]:
    confidence = np.float32(tables.facts.als_confidence) * _weights(len(played), scale, tables)
    return _fold_in(played, tables.embedding.gram, confidence, tables.facts.als_regularization)


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
) -> NDArray[np.float32]:
    """Return for each of `wanted` ([c, 3] genre codes) the genres shared with plays."""
    present = played != NO_CODE
    spread = np.repeat(weights[:, None], played.shape[1], axis=1)[present]
    by_genre = _weight_by_code(played[present], spread, wanted.ravel()).reshape(wanted.shape)
    shared = np.zeros(len(wanted), dtype=np.float32)
    for column in by_genre.T:
        shared = (shared + column).astype(np.float32)
    return np.asarray(shared / max(weights.sum(), np.float32(1e-9)))


def _fold_in(
    item_vectors: NDArray[np.float32],
    gram: NDArray[np.float64],
    confidence: NDArray[np.float32],
    regularization: float,
) -> NDArray[np.float32]:
    """Return the user's vector, float32 [d], by equation 4 of Hu, Koren and Volinsky (2008)."""
    if not len(item_vectors):
        return np.zeros(gram.shape[0], dtype=np.float32)
    played = item_vectors.astype(np.float64)
    weighted = played * confidence[:, None].astype(np.float64)
    left = gram + weighted.T @ played + regularization * np.eye(gram.shape[0])
    right = played.sum(axis=0) + weighted.sum(axis=0)
    return np.linalg.solve(left, right).astype(np.float32)


def _strengths(
    relation: Relation,
    recent_rows: NDArray[np.uint32],
    candidates: NDArray[np.uint32],
    tables: ItemTables,
) -> NDArray[np.float32]:
    """Return what recent plays say of candidates, float32 [parts, recent, candidates]."""
    if relation.prefix == "link":
        return _neighbour_strengths(tables.neighbours, recent_rows, candidates)[None]
    pairs = {
        "next": tables.successors,
        "after": tables.transitions,
        "together": tables.companions,
    }
    return _pair_strengths(pairs[relation.prefix], recent_rows, candidates)


def _neighbour_strengths(
    neighbours: Neighbours, recent_rows: NDArray[np.uint32], candidates: NDArray[np.uint32]
) -> NDArray[np.float32]:
    strengths = np.zeros((len(recent_rows), len(candidates)), dtype=np.float32)
    if not len(recent_rows) or not len(candidates):
        return strengths
    order = np.argsort(candidates, kind="stable")
    ordered = candidates[order]
    listed = np.asarray(neighbours.rows[recent_rows])
    scored = np.asarray(neighbours.scores[recent_rows])
    place = np.minimum(np.searchsorted(ordered, listed), len(candidates) - 1)
    plays, entries = np.nonzero((ordered[place] == listed) & (scored != 0))
    strengths[plays, order[place[plays, entries]]] = scored[plays, entries]
    return strengths


def _pair_strengths(
    pairs: PairWeights, recent_rows: NDArray[np.uint32], candidates: NDArray[np.uint32]
) -> NDArray[np.float32]:
    played, wanted = pairs.places[recent_rows], pairs.places[candidates]
    of, to = np.flatnonzero(played >= 0), np.flatnonzero(wanted >= 0)
    said = pairs.weights[:, played[of][:, None], wanted[to]].astype(np.float32)
    factors = pairs.units[:, played[of]] * pairs.fades(len(recent_rows))[:, of]
    strengths = np.zeros((len(said), len(recent_rows), len(candidates)), dtype=np.float32)
    strengths[:, of[:, None], to] = factors[:, :, None] * said
    return strengths


COMPUTED: tuple[Callable[[RankingQuery, ItemTables], Columns], ...] = (
    _source_columns,
    *(partial(_relation_columns, relation) for relation in RELATIONS),
    _vector_columns,
    _item_columns,
    _release_columns,
    _affinity_columns,
    _user_columns,
)
"""In the order of the matrix's columns."""
