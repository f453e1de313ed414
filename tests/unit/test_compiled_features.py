"""Compiled features against those of numpy, over everything that a request may hold."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from benchmarks.peers import numpy_features
from services.ranker.domain import feature_kernels
from services.ranker.domain.features import SOURCES, assemble, feature_names
from services.ranker.domain.values import ItemTables, RankingQuery, SourceColumn
from signals import cholesky, code_tables, fold_in_kernel, pair_kernels
from signals.bundle import (
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
from signals.kernel_arrays import for_kernel
from tests.unit.random_weights import random_weights

N_ITEMS = 2_500
DIMENSIONS = (5, 16, 17, 64)
LIST_LENGTH = 60
AS_OF_S = 1_700_000_000
RANKS = {
    name: name.removesuffix("_rank")
    for name in feature_names()
    if name.removesuffix("_rank") in feature_names() and name.endswith("_rank")
}
KERNELS = (feature_kernels, cholesky, code_tables, fold_in_kernel, pair_kernels)


@cache
def tables(dimension: int, order: str) -> ItemTables:
    """Return tables with short lists, items without genres, plays or times, and zero vectors."""
    random = np.random.default_rng(dimension)
    vectors = random.normal(size=(N_ITEMS, dimension)).astype(np.float32) * np.float32(0.3)
    vectors[::50] = 0
    share = random.dirichlet(np.ones(N_ITEMS)).astype(np.float32)
    share[::70] = 0
    first_played_s = random.integers(AS_OF_S - 10**8, AS_OF_S, N_ITEMS)
    first_played_s[::60] = 0
    genres = random.integers(0, 12, (N_ITEMS, 3)).astype(np.uint16)
    genres[random.random(N_ITEMS) < 0.4, 1:] = NO_CODE
    genres[::7] = NO_CODE
    return ItemTables(
        facts=facts(dimension, order),
        embedding=Embedding(vectors, vectors.astype(np.float64).T @ vectors),
        neighbours=padded_lists(random),
        successors=random_weights(Successors, random, N_ITEMS, (0.5, 3.0, 20.0)),
        companions=random_weights(Companions, random, N_ITEMS, (np.inf,)),
        transitions=random_weights(Transitions, random, N_ITEMS, (np.inf, 1.0, 4.0)),
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
            artists=random.integers(0, 300, N_ITEMS).astype(np.uint32),
            recordings=np.arange(N_ITEMS, dtype=np.uint32),
            genres=genres,
            released=random.choice([np.nan, 1990.5, 2003.0], N_ITEMS).astype(np.float32),
            rights=np.zeros(N_ITEMS, dtype=np.uint16),
        ),
    )


def facts(dimension: int, order: str) -> BundleFacts:
    return BundleFacts(
        order=order,
        as_of_s=AS_OF_S,
        window_start_s=0,
        recent_window_s=604_800,
        items=N_ITEMS,
        users=1,
        events=1,
        dimension=dimension,
        metric="angular",
        als_confidence=40.0,
        als_regularization=0.05,
        sources=SOURCES,
        features=feature_names(),
    )


def padded_lists(random: np.random.Generator) -> Neighbours:
    """Return lists among the next items, as the publisher pads them; some are empty."""
    steps = np.argsort(random.random((N_ITEMS, 150)), axis=1)[:, :LIST_LENGTH] + 1
    rows = ((np.arange(N_ITEMS)[:, None] + steps) % N_ITEMS).astype(np.uint32)
    scores = -np.sort(-random.random((N_ITEMS, LIST_LENGTH)).astype(np.float32), axis=1)
    lengths = random.integers(0, LIST_LENGTH + 1, N_ITEMS)
    is_padding = np.arange(LIST_LENGTH) >= lengths[:, None]
    scores[is_padding] = 0
    rows[is_padding] = 0
    return Neighbours(rows, scores)


def query(seed: int, n_plays: int, n_candidates: int, sources: frozenset[str]) -> RankingQuery:
    """Return a query whose plays lie close together, often the same, and near the candidates."""
    random = np.random.default_rng(seed)
    start = int(random.integers(N_ITEMS))
    near = (start + random.permutation(n_candidates)) % N_ITEMS
    played = (start + random.integers(0, 120, n_plays)) % N_ITEMS
    columns = {}
    for source in sorted(sources):
        ranks = random.permutation(n_candidates).astype(np.uint32)
        ranks[random.random(n_candidates) < 0.4] = 0
        scores = np.where(ranks > 0, random.normal(size=n_candidates), 0).astype(np.float32)
        columns[source] = SourceColumn(ranks, scores)
    ages_s = np.sort(random.random(n_plays) * 1e7).astype(np.float32)
    return RankingQuery(near.astype(np.uint32), columns, played.astype(np.uint32), ages_s)


def assert_close(matrix: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    for place, name in enumerate(feature_names()):
        if name not in RANKS:
            np.testing.assert_allclose(
                matrix[:, place], expected[:, place], rtol=1e-5, atol=1e-6, err_msg=name
            )
    for rank, of in RANKS.items():
        column, scores = (feature_names().index(name) for name in (rank, of))
        assert_ranked(matrix[:, column], expected[:, scores])


def assert_ranked(ranks: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    """Check that ranks put the scores in order, but for pairs that rounding alone tells apart."""
    if np.isnan(scores).all():
        assert np.isnan(ranks).all()
        return
    order = np.argsort(ranks)
    assert ranks[order].tolist() == list(range(1, len(ranks) + 1))
    rises = np.diff(scores[order].astype(np.float64))
    assert (rises <= 1e-6 + 1e-5 * np.abs(scores[order][1:])).all()
    is_tied = (scores[order][1:] == 0) & (scores[order][:-1] == 0)
    assert (np.diff(order)[is_tied] > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_plays=st.sampled_from([0, 1, 2, 50, 200]) | st.integers(0, 200),
    n_candidates=st.integers(1, 60) | st.integers(1, 2_000),
    sources=st.frozensets(st.sampled_from((*SOURCES, "another"))),
    order=st.sampled_from(["time", "position", "none"]),
    dimension=st.sampled_from(DIMENSIONS),
)
@example(1, 200, 2_000, frozenset(SOURCES), "time", 64)
@example(2, 50, 500, frozenset(SOURCES), "none", 64)
@example(3, 1, 1, frozenset(), "position", 5)
@example(4, 0, 1, frozenset(SOURCES), "time", 17)
def test_compiled_features_are_those_of_numpy_but_for_rounding(
    seed: int,
    n_plays: int,
    n_candidates: int,
    sources: frozenset[str],
    order: str,
    dimension: int,
) -> None:
    asked, looked_up = query(seed, n_plays, n_candidates, sources), tables(dimension, order)

    matrix = assemble(asked, looked_up)

    assert_close(matrix, numpy_features.assemble(asked, looked_up))


@pytest.mark.parametrize("count", [1, 7, 500])
def test_ranks_fall_with_the_score_and_equal_ones_stay_in_list_order(count: int) -> None:
    values = np.array([0.0, -0.0, 1.5, -1.5, 1e-40, -1e-40, 3e38, -3e38], dtype=np.float32)
    scores = np.random.default_rng(count).choice(values, count)
    column = np.zeros(count, dtype=np.float32)

    feature_kernels.write_ranks(np.sort(feature_kernels.rank_keys(for_kernel(scores))), column)

    expected = np.argsort(-scores, kind="stable")
    assert np.argsort(column).tolist() == expected.tolist()


def test_equal_input_gives_equal_bits() -> None:
    asked, looked_up = query(5, 200, 500, frozenset(SOURCES)), tables(64, "time")

    first, second = assemble(asked, looked_up), assemble(asked, looked_up)

    assert first.tobytes() == second.tobytes()


def compiled() -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the name and the argument types of everything compiled that Python calls."""
    for module in KERNELS:
        for name, kernel in vars(module).items():
            if isinstance(kernel, Dispatcher) and not name.startswith("_"):
                yield from ((name, signature) for signature in kernel.signatures)


def test_what_warming_compiled_serves_every_kind_of_array(tmp_path: Path) -> None:
    held = tables(64, "time")
    for view in (
        held.embedding,
        held.neighbours,
        held.successors,
        held.companions,
        held.transitions,
        held.stats,
        held.traits,
    ):
        view.write(tmp_path)
    mapped = ItemTables(
        held.facts,
        Embedding.open(tmp_path),
        Neighbours.open(tmp_path),
        Successors.open(tmp_path),
        Companions.open(tmp_path),
        Transitions.open(tmp_path),
        ItemStats.open(tmp_path),
        ItemTraits.open(tmp_path),
    )
    rows = np.arange(500, dtype=np.uint32)
    assemble(RankingQuery(rows, {}, rows[:50], np.zeros(50, dtype=np.float32)), mapped)
    warm = set(compiled())
    frozen = rows[::-1]
    frozen.flags.writeable = False

    for looked_up in (mapped, held, tables(5, "none")):
        for history in (rows[:0], rows[:1], rows[200:0:-1], frozen[::3][:120]):
            ages_s = np.zeros(len(history), dtype=np.float32)
            for candidates in (rows, rows[::2], frozen, rows[:1]):
                assemble(RankingQuery(candidates, {}, history, ages_s), looked_up)

    assert set(compiled()) == warm
    elements = [(name, *(getattr(kind, "dtype", kind) for kind in kinds)) for name, kinds in warm]
    assert len(elements) >= len(KERNELS)
    assert len(set(elements)) == len(elements)  # whatever ran before in this process


@pytest.mark.parametrize("field", ["rows", "history_rows"])
def test_a_row_beyond_the_tables_is_refused(field: str) -> None:
    asked = query(6, 60, 20, frozenset())
    getattr(asked, field)[-1] = N_ITEMS

    with pytest.raises(IndexError, match=f"{N_ITEMS} is beyond"):
        assemble(asked, tables(5, "time"))
