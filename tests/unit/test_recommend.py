"""The gateway's core: whatever goes wrong around it, it answers and says what it is worth."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.clock import FixedClock
from services.gateway.domain.failures import RULES, Failure
from services.gateway.domain.filters import ItemRules, allowed_rows
from services.gateway.domain.recommend import (
    Limits,
    Recommender,
    ServedBundle,
    no_answer,
    reorder,
)
from services.gateway.domain.trail import Fact
from services.gateway.domain.values import (
    Answer,
    Ask,
    HistoryReading,
    Merged,
    RankedBy,
    RankerAnswer,
    SourceAnswer,
    SourceStatus,
    Subject,
)
from signals.tiers import Tier
from tests.contract.in_memory_history_store import InMemoryHistoryStore
from tests.unit.gateway_world import (
    CASES,
    answer_of,
    item_ids,
    item_rules,
    plays_of,
    ranked_of,
    rows_of,
)

N_ITEMS = 40
IDS = item_ids(N_ITEMS)
LISTENER = "listener"
SOURCES = ("ann", "similar", "trending")
BUDGET_S = 0.150


@dataclass(slots=True)
class FakeSource:
    """Answers what it was given and remembers what it was asked."""

    answer: SourceAnswer
    asked: list[tuple[Subject, int, float]] = field(default_factory=list)

    async def generate(self, subject: Subject, *, limit: int, timeout_s: float) -> SourceAnswer:
        self.asked.append((subject, limit, timeout_s))
        return self.answer


@dataclass(slots=True)
class FakeRanker:
    """Prefers high rows, or fails; remembers what it was asked."""

    is_down: bool = False
    asked: list[tuple[Merged, float]] = field(default_factory=list)

    async def rank(self, candidates: Merged, subject: Subject, *, timeout_s: float) -> RankerAnswer:
        del subject
        self.asked.append((candidates, timeout_s))
        if self.is_down:
            return RankerAnswer(None, failed=True, latency_s=timeout_s)
        return RankerAnswer(candidates.rows.astype(np.float32), failed=False, latency_s=0.001)


@dataclass(frozen=True, slots=True)
class FakeSwitches:
    disabled: frozenset[str]

    def disabled_sources(self) -> frozenset[str]:
        return self.disabled


@dataclass(slots=True)
class FakeBudget:
    """Says each of `left_s` once, to history, sources and ranker, and then its last for ever."""

    left_s: list[float]

    def remaining_s(self) -> float:
        return self.left_s.pop(0) if len(self.left_s) > 1 else self.left_s[0]


@dataclass(slots=True)
class FakeTrail:
    """Remembers the stages, in order, and what was said of each."""

    stages: dict[str, dict[str, Fact]] = field(default_factory=dict)

    def mark(self, stage: str, **facts: Fact) -> None:
        self.stages[stage] = facts


class World:
    """A recommender over fakes."""

    def __init__(
        self,
        answers: Sequence[SourceAnswer] = (),
        *,
        played: Sequence[int] = (0,),
        disabled: Sequence[str] = (),
        ranker_is_down: bool = False,
        rules: ItemRules | None = None,
        limits: Limits | None = None,
    ) -> None:
        given_answers: Mapping[str, SourceAnswer] = {each.source: each for each in answers}
        self.sources = {
            name: FakeSource(given_answers.get(name, answer_of(name, []))) for name in SOURCES
        }
        self.ranker = FakeRanker(ranker_is_down)
        self.history = InMemoryHistoryStore({LISTENER: plays_of(played)})
        self.trail = FakeTrail()
        self.rules = rules or item_rules(N_ITEMS)
        self.recommender = Recommender(
            bundle=ServedBundle("bundle-1", self.rules, rows_of(range(len(self.rules.keys.keys)))),
            history=self.history,
            sources=self.sources,
            ranker=self.ranker,
            switches=FakeSwitches(frozenset(disabled)),
            clock=FixedClock(0.0),
            limits=limits or Limits(),
            trail=self.trail,
        )

    def answer(self, ask: Ask, *left_s: float) -> Answer:
        budget = FakeBudget(list(left_s) or [BUDGET_S])
        return asyncio.run(self.recommender.recommend(ask, budget))

    def asked_sources(self) -> list[str]:
        return [name for name, source in self.sources.items() if source.asked]


def ask_for(
    page_size: int = 5,
    *,
    user_id: str = LISTENER,
    market: str = "",
    seeds: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> Ask:
    return Ask(user_id, page_size, market, tuple(seeds), tuple(excluded))


def statuses(answer: Answer) -> dict[str, SourceStatus]:
    return {source.source: source.status for source in answer.sources}


GOOD = (
    answer_of("ann", [10, 11, 12]),
    answer_of("similar", [12, 13]),
    answer_of("trending", [14, 15, 16]),
)


def test_a_whole_answer_is_the_models_order_of_what_the_sources_proposed() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(page_size=5))

    assert answer.slate.rows.tolist() == [16, 15, 14, 13, 12]
    assert answer.slate.scores.tolist() == [16, 15, 14, 13, 12]
    assert answer.slate.not_selected.tolist() == [11, 10]
    assert answer.ranked_by is RankedBy.MODEL
    assert answer.bundle_version == "bundle-1"
    assert not answer.is_degraded


def test_the_trail_counts_what_each_stage_took_and_left() -> None:
    world = World(GOOD, played=(0, 16), disabled=("similar",))

    world.answer(ask_for(page_size=3, excluded=[IDS[10]]))

    assert world.trail.stages == {
        "look_up": {"plays": 2},
        "fan_out": {"sources": ("ann=OK", "similar=DISABLED", "trending=OK")},
        "merge": {"candidates_in": 6, "candidates_out": 6},
        "filter.seen": {"removed": 1},
        "filter.excluded": {"removed": 1},
        "filter.rights": {"removed": 0},
        "rank": {"candidates_in": 4},
        "re_rank": {"items": 3, "filled": 0},
    }
    assert list(world.trail.stages)[:3] == ["look_up", "fan_out", "merge"]


@pytest.mark.parametrize(
    "status", [SourceStatus.TIMEOUT, SourceStatus.ERROR, SourceStatus.SHED], ids=lambda s: s.name
)
def test_a_source_without_answer_leaves_an_answer_and_is_named(status: SourceStatus) -> None:
    world = World([no_answer("ann", status, 0.08), *GOOD[1:]])

    answer = world.answer(ask_for())

    assert answer.slate.rows.tolist() == [16, 15, 14, 13, 12]
    assert statuses(answer) == {
        "ann": status,
        "similar": SourceStatus.OK,
        "trending": SourceStatus.OK,
    }
    assert answer.is_degraded


def test_a_stale_sources_candidates_are_used_and_the_answer_is_degraded() -> None:
    stale = SourceAnswer("trending", SourceStatus.STALE, rows_of([14]), np.ones(1, np.float32))
    world = World([*GOOD[:2], stale])

    answer = world.answer(ask_for())

    assert 14 in answer.slate.rows
    assert answer.is_degraded


def test_a_disabled_source_is_not_asked_and_is_named() -> None:
    world = World(GOOD, disabled=["similar"])

    answer = world.answer(ask_for())

    assert world.asked_sources() == ["ann", "trending"]
    assert statuses(answer)["similar"] is SourceStatus.DISABLED
    assert answer.sources[1].latency_s is None
    assert 13 not in answer.slate.rows
    assert answer.is_degraded


def test_an_unknown_switch_switches_nothing_off() -> None:
    world = World(GOOD, disabled=["no such source"])

    assert not world.answer(ask_for()).is_degraded


def test_a_failed_ranker_leaves_merge_order_and_a_degraded_answer() -> None:
    world = World(GOOD, ranker_is_down=True)

    answer = world.answer(ask_for(page_size=3))

    assert answer.slate.rows.tolist() == [12, 10, 14]
    assert answer.ranked_by is RankedBy.FALLBACK
    assert answer.is_degraded


def test_a_listener_without_history_gets_merge_order_undegraded_and_the_ranker_is_not_asked() -> (
    None
):
    world = World(GOOD)

    answer = world.answer(ask_for(page_size=3, user_id="nobody we know"))

    assert world.ranker.asked == []
    assert answer.slate.rows.tolist() == [12, 10, 14]
    assert answer.ranked_by is RankedBy.FALLBACK
    assert answer.ranker.latency_s is None
    assert not answer.is_degraded


def test_seed_items_make_a_history_for_somebody_unknown() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(user_id="", seeds=[IDS[3], IDS[4]]))

    (subject, _, _) = world.sources["ann"].asked[0]
    assert subject.history.rows.tolist() == [4, 3]
    assert answer.ranked_by is RankedBy.MODEL


@pytest.mark.parametrize(
    "failure", [Failure.LATE, Failure.UNAVAILABLE, Failure.FULL, Failure.BROKEN]
)
def test_a_history_that_cannot_be_read_leaves_a_degraded_answer_of_the_seed_items(
    failure: Failure,
) -> None:
    world = World(GOOD)
    world.history.failure = failure

    answer = world.answer(ask_for(seeds=[IDS[3]]))

    (subject, _, _) = world.sources["ann"].asked[0]
    assert subject.history.rows.tolist() == [3]
    assert answer.slate.rows.tolist() == [16, 15, 14, 13, 12]
    assert answer.history.status is RULES[failure].status
    assert answer.tier is Tier.RECENT_ITEMS
    assert answer.is_degraded


def test_waiting_in_vain_for_a_history_is_no_sign_of_a_full_gateway() -> None:
    world = World(GOOD)
    whole = world.answer(ask_for())
    slow = HistoryReading(SourceStatus.TIMEOUT, latency_s=0.02)

    late = replace(whole, history=slow)
    slow_but_there = replace(whole, history=replace(slow, status=SourceStatus.OK))

    assert late.waited_in_vain_s == pytest.approx(whole.waited_in_vain_s + 0.02)
    assert slow_but_there.waited_in_vain_s == whole.waited_in_vain_s


@CASES
@given(st.floats(0.0, 10.0))
def test_reading_the_history_leaves_four_fifths_of_the_budget(budget_s: float) -> None:
    world = World(GOOD)

    world.answer(ask_for(), budget_s)

    (timeout_s,) = world.history.timeouts_s
    assert timeout_s <= budget_s / 5


def test_no_candidates_are_no_question_to_the_ranker() -> None:
    world = World()

    answer = world.answer(ask_for(page_size=3))

    assert world.ranker.asked == []
    assert answer.slate.rows.tolist() == [1, 2, 3]
    assert not answer.is_degraded


def test_popularity_fills_what_sources_leave_open_and_counts_it() -> None:
    world = World([answer_of("ann", [30])])

    answer = world.answer(ask_for(page_size=4))

    assert answer.slate.rows.tolist() == [30, 1, 2, 3]
    assert answer.slate.filled == 3
    assert not answer.is_degraded


def test_a_page_shorter_than_asked_is_degraded() -> None:
    world = World(GOOD, rules=item_rules(N_ITEMS))

    answer = world.answer(ask_for(page_size=N_ITEMS))

    assert len(answer.slate.rows) == N_ITEMS - 1
    assert answer.is_short
    assert answer.is_degraded


def test_an_expired_budget_asks_nobody_and_still_answers_from_popularity() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(page_size=4), 0.0)

    assert world.asked_sources() == []
    assert world.ranker.asked == []
    assert answer.slate.rows.tolist() == [0, 1, 2, 3]
    assert {*statuses(answer).values(), answer.history.status} == {SourceStatus.TIMEOUT}
    assert answer.is_degraded


def test_a_budget_that_sources_used_up_leaves_merge_order_and_a_failed_ranker() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(page_size=3), BUDGET_S, BUDGET_S, 0.0)

    assert world.ranker.asked == []
    assert answer.slate.rows.tolist() == [12, 10, 14]
    assert answer.ranker.failed
    assert answer.is_degraded


@CASES
@given(st.floats(0.0, 10.0), st.floats(0.0, 1.0))
def test_every_call_gets_a_timeout_between_0_and_what_is_left(
    budget_s: float, left_for_ranker: float
) -> None:
    world = World(GOOD)
    ranker_left_s = budget_s * left_for_ranker

    world.answer(ask_for(), budget_s, budget_s, ranker_left_s)

    for source in world.sources.values():
        assert all(0 < timeout_s < min(budget_s, 1.001) for _, _, timeout_s in source.asked)
    assert all(0 < timeout_s < ranker_left_s for _, timeout_s in world.ranker.asked)


def test_sources_leave_the_ranker_a_share_of_the_budget() -> None:
    world = World(GOOD)

    world.answer(ask_for(), 0.150)

    (_, _, timeout_s) = world.sources["ann"].asked[0]
    assert timeout_s == pytest.approx(0.150 * 0.6 - 0.005)
    assert world.ranker.asked[0][1] == pytest.approx(0.150 - 0.005)


def test_every_source_gets_the_subject_and_the_limit() -> None:
    world = World(GOOD, played=[7, 8], limits=Limits(candidates_per_source=33))

    world.answer(ask_for(market="SE", excluded=[IDS[9]]))

    for source in world.sources.values():
        ((subject, limit, _),) = source.asked
        assert limit == 33
        assert subject.market == "SE"
        assert subject.history.rows.tolist() == [8, 7]
        assert subject.exclude_rows.tolist() == [9]


def test_a_narrowed_request_asks_for_less_but_for_a_page_at_least() -> None:
    limits = Limits(candidates_per_source=100, ranked=200)
    narrowed, tight = World(GOOD, limits=limits), World(GOOD, limits=limits)

    answer = asyncio.run(
        narrowed.recommender.recommend(ask_for(), FakeBudget([BUDGET_S]), quality=0.25)
    )
    asyncio.run(tight.recommender.recommend(ask_for(30), FakeBudget([BUDGET_S]), quality=0.25))

    assert answer.quality == 0.25
    assert narrowed.sources["ann"].asked[0][1] == 25
    assert tight.sources["ann"].asked[0][1] == 30
    assert not answer.is_degraded


@pytest.mark.parametrize(
    ("statuses_s", "ranker_failed", "expected_s"),
    [
        ({"ann": ("OK", 0.02), "similar": ("TIMEOUT", 0.09)}, False, 0.07),
        ({"ann": ("OK", 0.02), "similar": ("OK", 0.05)}, False, 0.0),
        ({"ann": ("OK", 0.02), "similar": ("ERROR", 0.001)}, False, 0.0),
        ({"ann": ("TIMEOUT", 0.09), "similar": ("TIMEOUT", 0.09)}, False, 0.0),
        ({"ann": ("OK", 0.02), "similar": ("OK", 0.02)}, True, 0.04),
    ],
    ids=["one late", "all answer", "one fails at once", "none answers", "the ranker fails"],
)
def test_waits_for_parts_that_failed_are_told_from_work(
    statuses_s: dict[str, tuple[str, float]], ranker_failed: bool, expected_s: float
) -> None:
    whole = World(GOOD).answer(ask_for())
    answer = replace(
        whole,
        sources=tuple(
            no_answer(name, SourceStatus[status], latency_s)
            for name, (status, latency_s) in statuses_s.items()
        ),
        ranker=RankerAnswer(None, failed=ranker_failed, latency_s=0.04),
    )

    assert answer.waited_in_vain_s == pytest.approx(expected_s)


def test_the_ranker_is_asked_for_the_head_of_what_may_be_shown() -> None:
    world = World([answer_of("ann", [0, 10, 11, 12, 13])], limits=Limits(ranked=2))

    answer = world.answer(ask_for(page_size=3))

    assert world.ranker.asked[0][0].rows.tolist() == [10, 11]
    assert answer.ranked.rows.tolist() == [11, 10]
    assert answer.slate.rows.tolist() == [11, 10, 1]


def test_unknown_seed_and_exclude_ids_are_ignored_and_counted() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(seeds=["?", IDS[2]], excluded=["?", "!", IDS[16]]))

    assert answer.subject.ignored_item_ids == 3
    assert answer.subject.history.rows.tolist() == [2, 0]
    assert 16 not in answer.slate.rows


def test_the_answer_holds_what_was_retrieved_removed_and_not_selected() -> None:
    world = World([answer_of("ann", [0, 10, 11]), answer_of("similar", [5, 12])], played=[0])

    answer = world.answer(ask_for(page_size=1, excluded=[IDS[5]]))

    assert [source.rows.tolist() for source in answer.sources] == [[0, 10, 11], [5, 12], []]
    removed = {each.filter_name: each.rows.tolist() for each in answer.removed}
    assert removed == {"seen": [0], "excluded": [5], "rights": []}
    assert answer.ranked.rows.tolist() == [12, 11, 10]
    assert answer.slate.rows.tolist() == [12]
    assert answer.slate.not_selected.tolist() == [11, 10]


def test_provenance_stays_beside_its_item_through_ranking() -> None:
    world = World(GOOD)

    answer = world.answer(ask_for(page_size=5))

    place = answer.slate.places[answer.slate.rows.tolist().index(12)]
    ranks = {name: int(column.ranks[place]) for name, column in answer.ranked.columns.items()}
    assert ranks == {"ann": 3, "similar": 1, "trending": 0}


def test_equal_scores_go_to_the_lower_row() -> None:
    ranked = reorder(ranked_of([9, 3, 5]), np.array([1.0, 1.0, 2.0], dtype=np.float32))

    assert ranked.rows.tolist() == [5, 3, 9]
    assert ranked.columns["ann"].ranks.tolist() == [3, 2, 1]


@st.composite
def any_answer(draw: st.DrawFn, source: str) -> SourceAnswer:
    """Draw an answer that is good, empty, huge, full of repeats, late or failed."""
    status = draw(st.sampled_from(SourceStatus))
    if status not in (SourceStatus.OK, SourceStatus.STALE):
        return no_answer(source, status, 0.1)
    times = draw(st.sampled_from([1, 100]))
    rows = draw(st.lists(st.integers(0, N_ITEMS - 1), max_size=30)) * times
    return SourceAnswer(
        source, status, rows_of(rows), np.arange(len(rows), 0, -1, dtype=np.float32), 0.01
    )


ANY_ANSWERS = st.tuples(*(any_answer(source) for source in SOURCES))
SOME_ROWS = st.sets(st.integers(0, N_ITEMS - 1), max_size=20)


@CASES
@given(
    ANY_ANSWERS,
    SOME_ROWS,
    SOME_ROWS,
    st.lists(st.integers(0, 25), min_size=N_ITEMS, max_size=N_ITEMS),
    st.integers(1, N_ITEMS + 5),
    st.booleans(),
)
def test_any_answers_make_a_slate_that_keeps_every_promise(
    answers: tuple[SourceAnswer, ...],
    played: set[int],
    excluded: set[int],
    recordings: list[int],
    page_size: int,
    ranker_is_down: bool,
) -> None:
    rules = item_rules(N_ITEMS, recordings=recordings, only_in={1: "DE", 2: "DE"})
    world = World(answers, played=sorted(played), ranker_is_down=ranker_is_down, rules=rules)

    answer = world.answer(
        ask_for(page_size, market="SE", excluded=[IDS[row] for row in sorted(excluded)])
    )

    rows = answer.slate.rows.tolist()
    eligible = np.flatnonzero(allowed_rows(rows_of(range(N_ITEMS)), answer.subject, rules))
    possible = len({recordings[row] for row in eligible})
    assert len(set(rows)) == len(rows)
    assert not set(rows) & (played | excluded | {1, 2})
    assert len(rows) == min(page_size, possible)
    assert answer.is_short == (possible < page_size)
    assert np.isfinite(answer.slate.scores).all()
    assert [source.source for source in answer.sources] == list(SOURCES)
    is_all_ok = set(statuses(answer).values()) == {SourceStatus.OK}
    assert answer.is_degraded == (not is_all_ok or answer.ranker.failed or answer.is_short)
