"""Refreshes of trending data are traces of their own, and answers point to them."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

from meshkit.telemetry.recorder import Recorder
from services.candidates.adapters.trending_refresher import TrendingRefresher
from services.candidates.domain.trending import (
    GLOBAL,
    BucketTop,
    Segment,
    TrendingRowInvalidError,
    TrendingStoreUnavailableError,
    bucket_of,
)
from tests.contract.in_memory_trending_store import InMemoryTrendingStore, TrendingMemory

NOW_S = 1_700_000_000.0
ROCK = Segment(None, "Rock")
DEADLINE_S = 60.0


class Exported(SpanProcessor):
    """Keeps the spans that it is handed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


class Store(InMemoryTrendingStore):
    """A store in memory that knows two segments, and may fail to read one."""

    def __init__(self, fault: Exception | None = None) -> None:
        memory = TrendingMemory()
        bucket = bucket_of(NOW_S)
        for segment in (GLOBAL, ROCK):
            top = np.array([1], dtype=np.uint64)
            memory.tops[segment, bucket] = BucketTop(bucket, top, top, NOW_S)
        super().__init__(memory)
        self._fault = fault

    def read_segment(self, segment: Segment, now_s: float) -> list[BucketTop]:
        if segment == ROCK and self._fault is not None:
            raise self._fault
        return super().read_segment(segment, now_s)


def refresher_of(
    exported: Exported, store: Store, sampler: Sampler = ALWAYS_ON
) -> TrendingRefresher:
    refresher = TrendingRefresher(
        store, lambda: NOW_S, recorder=Recorder(sampler=sampler, processor=exported)
    )
    refresher.want([ROCK])
    return refresher


@pytest.fixture
def exported() -> Exported:
    return Exported()


def eventually(claim: Callable[[], object]) -> None:
    ends_s = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < ends_s, "did not come true in time"
        time.sleep(0.002)


def test_a_refresh_is_a_trace_with_a_span_for_every_read(exported: Exported) -> None:
    with refresher_of(exported, Store()):
        eventually(lambda: len(exported.spans) == 4)

    (refresh,) = exported.named("trending.refresh")
    reads = exported.named("trending.read_top")
    assert refresh.parent is None
    assert dict(refresh.attributes or {}) == {
        "recmesh.trending.is_full": True,
        "recmesh.trending.segments": 2,
        "recmesh.kept": "sampled",
    }
    assert refresh.context is not None
    assert [span.name for span in exported.spans[1:]] == [
        "trending.read_segments",
        "trending.read_top",
        "trending.read_top",
    ]
    assert {span.parent.span_id for span in exported.spans[1:] if span.parent} == {
        refresh.context.span_id
    }
    assert [(span.attributes or {})["recmesh.trending.segment"] for span in reads] == [
        GLOBAL.key,
        ROCK.key,
    ]


def test_an_answer_points_to_the_refresh_that_its_snapshot_came_from(exported: Exported) -> None:
    answering = Exported()
    with refresher_of(exported, Store()) as refresher:
        eventually(lambda: refresher.age_s() is not None)
        eventually(lambda: len(exported.spans) == 4)
        with Recorder(processor=answering).served("Generate", ()):
            refresher.snapshot()

    (link,) = answering.spans[0].links
    (refresh,) = exported.named("trending.refresh")
    assert refresh.context is not None
    assert (link.context.trace_id, link.context.span_id) == (
        refresh.context.trace_id,
        refresh.context.span_id,
    )


def test_no_answer_points_to_a_refresh_that_nobody_can_look_up(exported: Exported) -> None:
    answering = Exported()
    with refresher_of(exported, Store(), ALWAYS_OFF) as refresher:
        eventually(lambda: refresher.age_s() is not None)
        with Recorder(processor=answering).served("Generate", ()):
            refresher.snapshot()

    assert answering.spans[0].links == ()
    assert exported.spans == []


def test_a_refresh_that_fails_is_kept_though_not_sampled(exported: Exported) -> None:
    store = Store(TrendingStoreUnavailableError("no answer"))
    with refresher_of(exported, store, ALWAYS_OFF):
        eventually(lambda: exported.named("trending.refresh"))

    refresh = exported.named("trending.refresh")[0]
    failed = [span for span in exported.spans if span.status.status_code is StatusCode.ERROR]
    assert (refresh.attributes or {})["error.type"] == "TrendingStoreUnavailableError"
    assert refresh.status.description == "no answer"
    assert [span.name for span in failed[:2]] == ["trending.refresh", "trending.read_top"]


def test_a_damaged_segment_is_a_failed_read_in_a_refresh_that_did_not_fail(
    exported: Exported,
) -> None:
    with refresher_of(exported, Store(TrendingRowInvalidError("damaged"))):
        eventually(lambda: len(exported.spans) == 4)

    (refresh,) = exported.named("trending.refresh")
    whole, damaged = exported.named("trending.read_top")
    assert [span.status.status_code for span in (refresh, whole, damaged)] == [
        StatusCode.UNSET,
        StatusCode.UNSET,
        StatusCode.ERROR,
    ]
