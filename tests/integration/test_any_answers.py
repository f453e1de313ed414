"""The gateway's core behind its real clients: whatever leaves answer, no promise is broken."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recmesh.candidates.v1 import candidates_pb2
from recmesh.ranker.v1 import ranker_pb2

from meshkit.channels import open_channel
from meshkit.clock import FixedClock
from meshkit.deadlines import Budget
from services.gateway.adapters.grpc_ranker_client import GrpcRankerClient
from services.gateway.adapters.grpc_source_client import GrpcSourceClient
from services.gateway.domain.filters import allowed_rows
from services.gateway.domain.history import Plays
from services.gateway.domain.recommend import Limits, Recommender, ServedBundle
from services.gateway.domain.trail import NO_TRAIL
from services.gateway.domain.values import Answer, Ask, SourceStatus
from tests.integration.scripted_leaf import ScriptedLeaf, Step, fail, garble, propose
from tests.unit.gateway_world import item_ids, item_rules, plays_of, rows_of

N_ITEMS = 40
IDS = item_ids(N_ITEMS)
RULES = item_rules(N_ITEMS)
VERSION = "bundle-1"
SOURCES = ("ann", "similar", "trending")
BUDGET_S = 0.25
LATE_S = 0.5

WRONG = (math.nan, math.inf, -math.inf)


class OneHistory:
    """Gives everybody the same plays."""

    async def plays(self, _user_id: str, *, timeout_s: float) -> Plays:
        del timeout_s
        return plays_of([0, 1])


class NoSwitches:
    def disabled_sources(self) -> frozenset[str]:
        return frozenset()


class Leaves:
    """Three sources and a ranker that are told what to answer."""

    def __init__(self, running: ExitStack) -> None:
        self.by_name = {
            name: running.enter_context(ScriptedLeaf(propose([]), VERSION).serving())
            for name in (*SOURCES, "ranker")
        }

    def recommend(self, page_size: int) -> Answer:
        return asyncio.run(self._recommend(page_size))

    async def _recommend(self, page_size: int) -> Answer:
        channels = {name: open_channel([leaf.address]) for name, leaf in self.by_name.items()}
        await asyncio.gather(*(channel.channel_ready() for channel in channels.values()))
        recommender = Recommender(
            bundle=ServedBundle(VERSION, RULES, rows_of(range(N_ITEMS))),
            history=OneHistory(),
            sources={
                name: GrpcSourceClient(name, channels[name], VERSION, N_ITEMS) for name in SOURCES
            },
            ranker=GrpcRankerClient(channels["ranker"], VERSION),
            switches=NoSwitches(),
            clock=FixedClock(0.0),
            limits=Limits(),
            trail=NO_TRAIL,
        )
        ask = Ask("user", page_size, "", (), (IDS[5],))
        answer = await recommender.recommend(ask, Budget.start(BUDGET_S, None))
        for channel in channels.values():
            await channel.close()
        return answer


@pytest.fixture(scope="module")
def leaves() -> Iterator[Leaves]:
    with ExitStack() as running:
        yield Leaves(running)


def late(_request: Any, context: grpc.ServicerContext) -> Any:
    """Answer when nobody waits any more."""
    ends_s = time.monotonic() + LATE_S
    while context.is_active() and time.monotonic() < ends_s:
        time.sleep(0.01)
    return candidates_pb2.GenerateResponse(bundle_version=VERSION, rows=[7], scores=[1.0])


@st.composite
def propositions(draw: st.DrawFn) -> Step:
    """Draw an answer that is good, empty, huge, doubled, of no catalogue, or no number."""
    times = draw(st.sampled_from([1, 1, 1, 5_000]))
    last_row = draw(st.sampled_from([N_ITEMS - 1, N_ITEMS - 1, N_ITEMS, 2**32 - 1]))
    rows = draw(st.lists(st.integers(0, last_row), max_size=30)) * times
    scores = [float(len(rows) - place) for place in range(len(rows))]
    if rows and draw(st.integers(0, 5)) == 0:
        scores[draw(st.integers(0, len(rows) - 1))] = draw(st.sampled_from(WRONG))
    cut = draw(st.sampled_from([0, 0, 0, 1]))
    answer = candidates_pb2.GenerateResponse(
        bundle_version=draw(st.sampled_from([VERSION, VERSION, VERSION, "another"])),
        rows=rows,
        scores=scores[cut:],
        is_stale=draw(st.booleans()),
        tier=draw(st.integers(0, 9)),  # type: ignore[arg-type]  # newer than the gateway
    )
    return lambda _request, _context: answer


@st.composite
def scorings(draw: st.DrawFn) -> Step:
    """Draw a ranker: good, too short, too long, or no number."""
    extra = draw(st.sampled_from([0, 0, 0, 1, -1]))
    wrong = draw(st.sampled_from([None, None, *WRONG]))

    def step(request: ranker_pb2.RankRequest, _: grpc.ServicerContext) -> ranker_pb2.RankResponse:
        scores = [float(row % 7) for row in request.rows]
        scores = [*scores, 1.0] if extra > 0 else scores[: len(scores) + extra]
        if wrong is not None and scores:
            scores[0] = wrong
        return ranker_pb2.RankResponse(bundle_version=request.bundle_version, scores=scores)

    return step


FAILING = st.sampled_from(
    [
        late,
        garble,
        fail(grpc.StatusCode.UNAVAILABLE, "x"),
        fail(grpc.StatusCode.INTERNAL, "x"),
        fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "x"),
    ]
)
ANY_SOURCE = st.one_of(propositions(), propositions(), FAILING)
ANY_RANKER = st.one_of(scorings(), scorings(), FAILING)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.tuples(ANY_SOURCE, ANY_SOURCE, ANY_SOURCE), ANY_RANKER, st.integers(1, N_ITEMS + 5))
def test_nothing_is_lost_nothing_doubled_and_the_page_is_met(
    leaves: Leaves, steps: tuple[Step, Step, Step], ranker: Step, page_size: int
) -> None:
    for name, step in zip((*SOURCES, "ranker"), (*steps, ranker), strict=True):
        leaves.by_name[name].reset()
        leaves.by_name[name].step = step

    answer = leaves.recommend(page_size)

    rows = answer.slate.rows.tolist()
    eligible = np.flatnonzero(allowed_rows(rows_of(range(N_ITEMS)), answer.subject, RULES))
    assert len(rows) == len(set(rows)) == min(page_size, len(eligible))
    assert set(rows) <= set(eligible.tolist())
    assert np.isfinite(answer.slate.scores).all()
    proposed = {row for source in answer.sources for row in source.rows.tolist()}
    removed = [row for each in answer.removed for row in each.rows.tolist()]
    ranked = answer.ranked.rows.tolist()
    assert sorted(removed + ranked) == sorted(proposed)  # all are fewer than the ranker's limit
    assert {*rows[: len(rows) - answer.slate.filled], *answer.slate.not_selected.tolist()} == set(
        ranked
    )
    is_whole = all(source.status is SourceStatus.OK for source in answer.sources)
    assert answer.is_degraded == (not is_whole or answer.ranker.failed or answer.is_short)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.tuples(propositions(), propositions(), propositions()), scorings())
def test_the_same_answers_make_the_same_slate(
    leaves: Leaves, steps: tuple[Step, Step, Step], ranker: Step
) -> None:
    for name, step in zip((*SOURCES, "ranker"), (*steps, ranker), strict=True):
        leaves.by_name[name].reset()
        leaves.by_name[name].step = step

    first, second = leaves.recommend(20), leaves.recommend(20)

    # An answer that came too late on a busy machine is another answer.
    said = [[(each.status, len(each.rows)) for each in one.sources] for one in (first, second)]
    if said[0] == said[1] and first.ranker.failed == second.ranker.failed:
        assert first.slate.rows.tolist() == second.slate.rows.tolist()
        assert first.slate.scores.tolist() == second.slate.scores.tolist()
