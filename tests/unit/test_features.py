"""Every feature against a slow oracle that was written apart from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ranker.domain.features import FEATURE_GROUPS, SOURCES, assemble, feature_names
from services.ranker.domain.values import ItemTables, RankingQuery, SourceColumn
from signals.bundle import (
    LEAST_FADE,
    NO_CODE,
    Companions,
    Embedding,
    ItemStats,
    ItemTraits,
    Neighbours,
    Successors,
    Transitions,
)
from signals.bundle_facts import BundleFacts
from tests.unit.random_weights import random_weights

N_ITEMS = 30
DIMENSION = 4
LIST_LENGTH = 6
AS_OF_S = 1_700_000_000
CONFIDENCE = 40.0
REGULARIZATION = 0.05
FEATURES = [feature for group in FEATURE_GROUPS for feature in group.features]
SAID = ("rank", "score")
PARTS = {"next": ("just_now", "lately", "a_while_ago"), "after": ("soon", "at_once", "before")}
"""Of what successors and transitions say, in the order of their scales."""
SEEDS = pytest.mark.parametrize("seed", range(6))


def facts(order: str = "time") -> BundleFacts:
    return BundleFacts(
        order=order,
        as_of_s=AS_OF_S,
        window_start_s=0,
        recent_window_s=604_800,
        items=N_ITEMS,
        users=1,
        events=1,
        dimension=DIMENSION,
        metric="angular",
        als_confidence=CONFIDENCE,
        als_regularization=REGULARIZATION,
        sources=SOURCES,
        features=feature_names(),
    )


def random_tables(random: np.random.Generator, order: str = "time") -> ItemTables:
    """Return tables with everything that occurs: unplayed items, no genres, short lists."""
    vectors = random.normal(size=(N_ITEMS, DIMENSION)).astype(np.float32)
    vectors[-2:] = 0
    share = random.dirichlet(np.ones(N_ITEMS)).astype(np.float32)
    share[-2:] = 0
    first_played_s = random.integers(AS_OF_S - 10**8, AS_OF_S, N_ITEMS)
    first_played_s[-2:] = 0
    genres = random.integers(0, 5, (N_ITEMS, 3)).astype(np.uint16)
    genres[random.random(N_ITEMS) < 0.3, 1:] = NO_CODE
    genres[::7] = NO_CODE
    return ItemTables(
        facts=facts(order),
        embedding=Embedding(vectors, vectors.astype(np.float64).T @ vectors),
        neighbours=random_neighbours(random),
        successors=random_weights(
            Successors, random, N_ITEMS, (0.5, 3.0, 20.0), part=2 / 3 if order != "none" else 0
        ),
        companions=random_weights(Companions, random, N_ITEMS, (math.inf,)),
        transitions=random_weights(
            Transitions, random, N_ITEMS, (math.inf, 1.0, 4.0), part=2 / 3 if order != "none" else 0
        ),
        stats=ItemStats(
            share=share,
            recent_share=np.where(random.random(N_ITEMS) < 0.3, 0, share[::-1]).astype(np.float32),
            share_rank=random.random(N_ITEMS, dtype=np.float32),
            first_played_s=first_played_s,
            place=random.random(N_ITEMS, dtype=np.float32),
            depth=random.random(N_ITEMS, dtype=np.float32),
            late_share=random.random(N_ITEMS, dtype=np.float32),
        ),
        traits=ItemTraits(
            artists=random.integers(0, 8, N_ITEMS).astype(np.uint32),
            recordings=np.arange(N_ITEMS, dtype=np.uint32),
            genres=genres,
            released=random.choice([np.nan, 1990.5, 2003.0], N_ITEMS).astype(np.float32),
            rights=np.zeros(N_ITEMS, dtype=np.uint16),
        ),
    )


def random_neighbours(random: np.random.Generator) -> Neighbours:
    rows = np.zeros((N_ITEMS, LIST_LENGTH), dtype=np.uint32)
    scores = np.zeros((N_ITEMS, LIST_LENGTH), dtype=np.float32)
    for row in range(N_ITEMS):
        length = int(random.integers(0, LIST_LENGTH + 1))
        rows[row, :length] = random.choice(N_ITEMS, length, replace=False)
        scores[row, :length] = -np.sort(-random.random(length))
    return Neighbours(rows, scores)


def random_query(random: np.random.Generator, n_plays: int) -> RankingQuery:
    rows = random.permutation(N_ITEMS)[:20].astype(np.uint32)
    columns = {}
    for source in ("ann", "similar", "next", "together", "another"):
        ranks = random.permutation(len(rows)).astype(np.uint32)
        scores = np.where(ranks > 0, random.normal(size=len(rows)), 0).astype(np.float32)
        columns[source] = SourceColumn(ranks, scores)
    ages_s = np.sort(random.random(n_plays) * 1e7).astype(np.float32)
    played = random.integers(0, N_ITEMS, n_plays).astype(np.uint32)
    return RankingQuery(rows, columns, played, ages_s)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Computes one feature of one candidate at a time, in plain loops and float64."""

    query: RankingQuery
    tables: ItemTables

    def value(self, name: str, place: int) -> float:
        row = int(self.query.rows[place])
        source, _, said = name.rpartition("_")
        if source in ("ann", "similar", "next", "together", "trending") and said in SAID:
            return self.source(source, said, place)
        prefix, _, what = name.partition("_")
        if prefix in ("link", "next", "after", "together"):
            return self.relation(prefix, what, row)
        if name in ("vector_3", "vector_10", "vector_inf"):
            return self.vector_score(float(name.removeprefix("vector_")), row)
        return self.named(name)(row)

    def relation(self, prefix: str, what: str, row: int) -> float:
        if what.startswith("decay_"):
            scale = float(what.removeprefix("decay_"))
            return self.of_links(prefix, lambda links: weighed(links, scale), row)
        if what.startswith("days_"):
            days = float(what.removeprefix("days_"))
            return self.of_links(prefix, lambda links: self.aged(links, days), row)
        if what in PARTS.get(prefix, ()):
            return self.part(prefix, PARTS[prefix].index(what), row)
        summaries: dict[str, Callable[[Sequence[float]], float]] = {
            "last": lambda links: links[0],
            "second": lambda links: links[1] if len(links) > 1 else 0.0,
            "third": lambda links: links[2] if len(links) > 2 else 0.0,
            "max": lambda links: max(0.0, *links),
            "count": lambda links: sum(link > 0 for link in links),
            "newest": lambda links: next(
                (ago for ago, link in enumerate(links) if link > 0), math.nan
            ),
        }
        return self.of_links(prefix, summaries[what], row)

    def named(self, name: str) -> Callable[[int], float]:
        single: dict[str, Callable[[int], float]] = {
            "cosine_last": lambda row: self.of_cosines(lambda cosines: cosines[0], row),
            "cosine_mean_5": lambda row: self.of_cosines(
                lambda cosines: sum(cosines[:5]) / len(cosines[:5]), row
            ),
            "cosine_max": lambda row: self.of_cosines(max, row),
            "item_share_log": lambda row: log_share(self.tables.stats.share[row]),
            "item_share_rank": lambda row: float(self.tables.stats.share_rank[row]),
            "item_recent_share_log": lambda row: log_share(self.tables.stats.recent_share[row]),
            "item_trend": self.trend,
            "item_age_days": self.age_days,
            "artist_decay": lambda row: self.artist(row, 20.0),
            "artist_share": lambda row: self.artist(row, math.inf) / max(1, len(self.played(200))),
            **{
                f"genre_decay_{scale:g}": partial(self.genre_share, scale)
                for scale in (0.3, 3.0, 20.0, math.inf)
            },
            "history_plays": lambda _: len(self.query.history_rows),
            "newest_play_days": self.newest_play_days,
            "history_share_rank": self.history_share_rank,
            "item_place": lambda row: float(self.tables.stats.place[row]),
            "item_depth": lambda row: float(self.tables.stats.depth[row]),
            "item_late_share": lambda row: float(self.tables.stats.late_share[row]),
            "history_place_5": lambda _: self.mean_of_newest(self.tables.stats.place),
            "history_depth_5": lambda _: self.mean_of_newest(self.tables.stats.depth),
            "item_release_year": lambda row: float(self.tables.traits.released[row]),
            "release_since_last": self.since_last,
            "release_apart_last": lambda row: abs(self.since_last(row)),
            "release_since_5": lambda row: (
                float(self.tables.traits.released[row])
                - self.mean_of_newest(self.tables.traits.released)
            ),
        }
        return single[name]

    def source(self, source: str, said: str, place: int) -> float:
        column = self.query.sources.get(source)
        if column is None or column.ranks[place] == 0:
            return math.nan
        return float(column.ranks[place] if said == "rank" else column.scores[place])

    def played(self, limit: int) -> list[int]:
        return [int(row) for row in self.query.history_rows[:limit]]

    def of_links(self, prefix: str, what: Callable[[Sequence[float]], float], row: int) -> float:
        looked_back_on = 200 if prefix == "together" else 50
        said = [
            self.parts(prefix, played, ago, row)
            for ago, played in enumerate(self.played(looked_back_on))
        ]
        links = [parts[0] if prefix == "after" else sum(parts) for parts in said]
        return what(links) if links else math.nan

    def aged(self, links: Sequence[float], days: float) -> float:
        """Return the sum of links that fade with the days before the newest of their plays."""
        ages_s = self.query.history_ages_s[: len(links)].tolist()
        return sum(
            link * math.exp((min(ages_s) - age_s) / 86_400 / days)
            for link, age_s in zip(links, ages_s, strict=True)
        )

    def part(self, prefix: str, number: int, row: int) -> float:
        played = self.played(50)
        said = [self.parts(prefix, each, ago, row)[number] for ago, each in enumerate(played)]
        return sum(said) if played else math.nan

    def parts(self, prefix: str, played: int, ago: int, row: int) -> list[float]:
        """Return what a play says of an item, as it counts for each scale, and its age."""
        if prefix == "link":
            return [self.link(played, row)]
        pairs = {
            "next": self.tables.successors,
            "after": self.tables.transitions,
            "together": self.tables.companions,
        }[prefix]
        of, to = int(pairs.places[played]), int(pairs.places[row])
        if of < 0 or to < 0:
            return [0.0] * len(pairs.scales)
        return [
            int(weight) * float(unit) * faded(ago, float(scale))
            for weight, unit, scale in zip(
                pairs.weights[:, of, to],
                pairs.units[:, of],
                pairs.scales,
                strict=True,
            )
        ]

    def link(self, played: int, row: int) -> float:
        rows, scores = self.tables.neighbours.rows[played], self.tables.neighbours.scores[played]
        pairs = zip(rows.tolist(), scores.tolist(), strict=True)
        return next((score for other, score in pairs if other == row and score != 0), 0.0)

    def vector(self, row: int) -> NDArray[np.float64]:
        return np.asarray(self.tables.embedding.vectors[row], dtype=np.float64)

    def vector_score(self, scale: float, row: int) -> float:
        played = [self.vector(other) for other in self.played(50)]
        if not played:
            return math.nan
        left = self.tables.embedding.gram + REGULARIZATION * np.eye(DIMENSION)
        right = np.zeros(DIMENSION)
        for ago, vector in enumerate(played):
            confidence = CONFIDENCE * math.exp(-ago / scale)
            left = left + confidence * np.outer(vector, vector)
            right = right + (1 + confidence) * vector
        return float(self.vector(row) @ (np.linalg.inv(left) @ right))

    def of_cosines(self, what: Callable[[Sequence[float]], float], row: int) -> float:
        cosines = [cosine(self.vector(row), self.vector(other)) for other in self.played(50)]
        return what(cosines) if cosines else math.nan

    def mean_of_newest(self, values: NDArray[np.float32]) -> float:
        newest = [float(values[row]) for row in self.played(5)]
        return sum(newest) / len(newest) if newest else math.nan

    def since_last(self, row: int) -> float:
        released = self.tables.traits.released
        last = self.played(1)
        return float(released[row]) - float(released[last[0]]) if last else math.nan

    def trend(self, row: int) -> float:
        share = float(self.tables.stats.share[row])
        return float(self.tables.stats.recent_share[row]) / share if share else math.nan

    def age_days(self, row: int) -> float:
        first_s = int(self.tables.stats.first_played_s[row])
        return (AS_OF_S - first_s) / 86_400 if first_s else math.nan

    def artist(self, row: int, scale: float) -> float:
        artists = self.tables.traits.artists
        return sum(
            math.exp(-ago / scale)
            for ago, other in enumerate(self.played(200))
            if artists[other] == artists[row]
        )

    def genre_share(self, scale: float, row: int) -> float:
        mine = [code for code in self.tables.traits.genres[row].tolist() if code != NO_CODE]
        shared = total = 0.0
        for ago, other in enumerate(self.played(200)):
            total += math.exp(-ago / scale)
            for code in self.tables.traits.genres[other].tolist():
                shared += math.exp(-ago / scale) * mine.count(code)
        return shared / total if total else 0.0

    def newest_play_days(self, _row: int) -> float:
        ages_s = self.query.history_ages_s
        return float(ages_s[0]) / 86_400 if len(ages_s) else math.nan

    def history_share_rank(self, _row: int) -> float:
        ranks = [float(self.tables.stats.share_rank[row]) for row in self.query.history_rows]
        return sum(ranks) / len(ranks) if ranks else math.nan


def weighed(links: Sequence[float], scale: float) -> float:
    return sum(link * math.exp(-ago / scale) for ago, link in enumerate(links))


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def log_share(share: float) -> float:
    return math.log(max(float(share), 1e-9))


def column(matrix: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return matrix[:, feature_names().index(name)]


def faded(ago: int, scale: float) -> float:
    """Return what a play counts that many plays ago."""
    fade = math.exp(-ago / scale)
    return fade if fade >= LEAST_FADE else 0.0


def rank_in_list(scores: Sequence[float], place: int) -> int:
    """Return 1 plus how many stand before `place` when the highest come first."""
    mine = scores[place]
    before = sum(score == mine for score in scores[:place])
    return 1 + before + sum(score > mine for score in scores)


RANKS = {
    f"{scored}_rank": scored
    for scored in (
        "link_decay_3",
        "link_decay_10",
        "next_decay_inf",
        "after_decay_3",
        "together_decay_20",
        "together_days_90",
        "vector_10",
    )
}


@SEEDS
@pytest.mark.parametrize("n_plays", [0, 1, 3, 60, 200])
def test_every_feature_is_what_the_oracle_says(seed: int, n_plays: int) -> None:
    random = np.random.default_rng([seed, n_plays])
    tables, query = random_tables(random), random_query(random, n_plays)
    oracle = Oracle(query, tables)

    matrix = assemble(query, tables)

    for name in feature_names():
        if name in RANKS:
            continue
        expected = [oracle.value(name, place) for place in range(len(query.rows))]
        np.testing.assert_allclose(
            column(matrix, name), expected, rtol=1e-4, atol=1e-5, err_msg=name
        )


@SEEDS
@pytest.mark.parametrize(("rank", "of"), RANKS.items())
def test_a_rank_counts_from_the_highest_score_and_ties_stay_in_list_order(
    seed: int, rank: str, of: str
) -> None:
    random = np.random.default_rng(seed)
    query = random_query(random, 5)

    matrix = assemble(query, random_tables(random))

    scores = column(matrix, of).tolist()
    assert column(matrix, rank).tolist() == [
        rank_in_list(scores, place) for place in range(len(scores))
    ]


def test_names_are_unique_and_one_a_column() -> None:
    random = np.random.default_rng(0)
    matrix = assemble(random_query(random, 3), random_tables(random))

    names = feature_names()
    assert len(set(names)) == len(names) == matrix.shape[1]
    assert all(feature.unit for feature in FEATURES)


@pytest.mark.parametrize("order", ["time", "none"])
def test_the_matrix_is_float32_in_c_order(order: str) -> None:
    random = np.random.default_rng(0)
    query = random_query(random, 3)

    matrix = assemble(query, random_tables(random, order))

    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert len(matrix) == len(query.rows)


@SEEDS
def test_an_empty_history_gives_each_history_feature_its_declared_missing_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = assemble(random_query(random, 0), random_tables(random))

    told_without = {f"{source}_{said}" for source in SOURCES for said in SAID}
    for feature in FEATURES:
        if feature.name not in told_without and not feature.name.startswith("item_"):
            expected = np.full(len(matrix), feature.missing)
            np.testing.assert_array_equal(column(matrix, feature.name), expected, feature.name)


WEIGHED_BY_RECENCY = (
    "link_decay_",
    "next_decay_",
    "together_decay_",
    "after_decay_",
    "vector_",
    "artist_decay",
    "genre_decay_",
)


@SEEDS
def test_a_log_without_order_blanks_what_needs_order_and_nothing_else(seed: int) -> None:
    random = np.random.default_rng(seed)
    ordered = random_tables(random)
    query = random_query(random, 8)
    unordered = replace(ordered, facts=facts("none"))

    with_order, without = assemble(query, ordered), assemble(query, unordered)

    needing = [feature.name for feature in FEATURES if feature.needs_order]
    assert needing
    for feature in FEATURES:
        left = column(without, feature.name)
        if feature.needs_order:
            assert np.isnan(left).all(), feature.name
        elif not feature.name.startswith(WEIGHED_BY_RECENCY):
            np.testing.assert_array_equal(left, column(with_order, feature.name), feature.name)


@SEEDS
def test_a_log_without_times_blanks_what_counts_days_and_nothing_else(seed: int) -> None:
    random = np.random.default_rng(seed)
    timed = random_tables(random)
    query = random_query(random, 8)

    with_times = assemble(query, timed)
    without = assemble(query, replace(timed, facts=facts("position")))

    assert any("_days_" in name for name in feature_names())
    for name in feature_names():
        left, kept = column(without, name), column(with_times, name)
        if "_days_" in name:
            assert np.isnan(left).all(), name
        elif name.startswith("together_decay_"):
            # Sums of one product with the days, which may round otherwise, and so may tell ties.
            if not name.endswith("_rank"):
                np.testing.assert_allclose(left, kept, rtol=1e-5, atol=1e-7, err_msg=name)
        else:
            np.testing.assert_array_equal(left, kept, name)


@SEEDS
def test_days_count_from_the_newest_play(seed: int) -> None:
    random = np.random.default_rng(seed)
    tables, query = random_tables(random), random_query(random, 8)
    later = replace(query, history_ages_s=query.history_ages_s + np.float32(2**20))

    now, then = assemble(query, tables), assemble(later, tables)

    for name in feature_names():
        if "_days_" in name and name not in RANKS:
            np.testing.assert_allclose(
                column(then, name), column(now, name), rtol=1e-3, atol=1e-9, err_msg=name
            )


@SEEDS
def test_without_order_the_order_of_the_history_says_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    tables = random_tables(random, "none")
    query = random_query(random, 8)

    forwards = assemble(query, tables)
    backwards = assemble(replace(query, history_rows=query.history_rows[::-1]), tables)

    for feature in FEATURES:
        if feature.name not in RANKS:  # near ties may swap with the last bit
            there, back = column(forwards, feature.name), column(backwards, feature.name)
            np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-6, err_msg=feature.name)


def test_an_absent_source_is_missing_throughout_and_a_present_one_where_it_said_nothing() -> None:
    random = np.random.default_rng(1)
    query = random_query(random, 3)

    matrix = assemble(query, random_tables(random))

    assert np.isnan(column(matrix, "trending_rank")).all()
    assert np.isnan(column(matrix, "trending_score")).all()
    silent = query.sources["ann"].ranks == 0
    assert silent.any()
    assert (np.isnan(column(matrix, "ann_rank")) == silent).all()
    assert (np.isnan(column(matrix, "ann_score")) == silent).all()


def test_a_source_without_features_changes_nothing() -> None:
    random = np.random.default_rng(2)
    query, tables = random_query(random, 3), random_tables(random)
    known = {name: each for name, each in query.sources.items() if name != "another"}
    assert len(known) < len(query.sources)

    matrix = assemble(replace(query, sources=known), tables)

    np.testing.assert_array_equal(matrix, assemble(query, tables))


@SEEDS
def test_a_candidates_features_move_with_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    query, tables = random_query(random, 9), random_tables(random)
    order = random.permutation(len(query.rows))
    moved = replace(
        query,
        rows=query.rows[order],
        sources={
            name: SourceColumn(each.ranks[order], each.scores[order])
            for name, each in query.sources.items()
        },
    )

    there, here = assemble(moved, tables), assemble(query, tables)[order]

    for name in feature_names():
        if name not in RANKS:  # ties there go by list order
            np.testing.assert_allclose(
                column(there, name), column(here, name), rtol=1e-5, atol=1e-6, err_msg=name
            )
