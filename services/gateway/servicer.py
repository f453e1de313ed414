"""RecommendationService: proto to domain and back."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from meshkit.admission import PATIENT_S, Admission
from meshkit.call_log import CallLog
from meshkit.deadlines import Budget
from meshkit.fields import FieldFaults
from meshkit.telemetry import current_ids, recording
from meshkit.telemetry.recorder import DEGRADED
from services import attributes
from services.gateway.domain.pins import Pins
from services.gateway.domain.values import Answer, Ask, RankedBy, SourceStatus
from signals.bundle import ItemTexts
from signals.limits import MARKET_FAULT, MAX_EXCLUDED, MAX_ID_BYTES, is_market
from signals.tiers import Tier

_log = logging.getLogger(__name__)

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 200
MAX_SEEDS = 50

DEFAULT_SURFACE = "home"
SURFACE_DEADLINES_S = {"home": 0.150, "batch": 5.0}
"""Longest time that an answer may take, by where it will be shown, in seconds."""

REPLY_S = 0.010
"""Kept back from the caller's own deadline, for the answer to be written, sent and read."""


class RecommendationServicer(gateway_pb2_grpc.RecommendationServiceServicer):
    """Answers `Recommend`, each request from one bundle; `answered` hears of every answer."""

    def __init__(
        self,
        pins: Pins,
        admission: Admission,
        call_log: CallLog,
        answered: Callable[[Answer], None],
    ) -> None:
        self._pins = pins
        self._admission = admission
        self._call_log = call_log
        self._answered = answered
        self._working: set[asyncio.Task[tuple[Answer, ItemTexts]]] = set()

    async def Recommend(  # noqa: N802 - gRPC's own name
        self,
        request: gateway_pb2.RecommendRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> gateway_pb2.RecommendResponse:
        """Return one slate. A caller who hangs up cancels no leaf call: each would leak."""
        ask = read_ask(request)
        budget = start_budget(request.surface, context.time_remaining())
        noted = recording.current()
        noted.limit(budget.remaining_s())
        noted.note({attributes.SURFACE: request.surface or DEFAULT_SURFACE})
        work = asyncio.create_task(self._answer(ask, budget))
        self._working.add(work)  # the event loop itself holds tasks weakly
        work.add_done_callback(self._forget)
        self._admission.keep_until(work)
        noted.hold_until(work)
        answer, texts = await asyncio.shield(work)
        self._call_log.note("answered", answer.bundle_version)
        return write_answer(answer, texts)

    async def _answer(self, ask: Ask, budget: Budget) -> tuple[Answer, ItemTexts]:
        """Return the answer, narrowed for a hurried caller of a busy gateway."""
        is_patient = budget.remaining_s() >= PATIENT_S
        quality = 1.0 if is_patient else self._admission.quality()
        started_s = time.monotonic()
        answer, texts = await self._pins.recommend(ask, budget, quality)
        self._admission.observe(time.monotonic() - started_s - answer.waited_in_vain_s)
        note_answer(answer)
        self._answered(answer)
        return answer, texts

    def _forget(self, work: "asyncio.Task[tuple[Answer, ItemTexts]]") -> None:
        """Let go of a finished task; tell its fault, since its caller may have hung up."""
        self._working.discard(work)
        if not work.cancelled() and (fault := work.exception()) is not None:
            _log.warning("a request ended with %r", fault)


def start_budget(surface: str, caller_remaining_s: float | None) -> Budget:
    """Return what an answer may take: the surface's time, or less where the caller has less."""
    limit_s = SURFACE_DEADLINES_S[surface or DEFAULT_SURFACE]
    if caller_remaining_s is None:
        return Budget.start(limit_s, None)
    return Budget.start(limit_s, caller_remaining_s - REPLY_S)


def read_ask(request: gateway_pb2.RecommendRequest) -> Ask:
    """Return what a request asks for, or raise InvalidFields naming every field at fault."""
    faults = FieldFaults()
    faults.note(_ask_faults(request))
    faults.refuse()
    return Ask(
        user_id=request.user_id,
        page_size=request.page_size or DEFAULT_PAGE_SIZE,
        market=request.market,
        seed_item_ids=tuple(request.seed_item_ids),
        exclude_item_ids=tuple(request.exclude_item_ids),
    )


def _ask_faults(request: gateway_pb2.RecommendRequest) -> Iterator[tuple[str, str]]:
    """Yield (field, fault) for every limit that a request breaks."""
    if (size := len(request.user_id.encode())) > MAX_ID_BYTES:
        yield "user_id", f"has {size} bytes; at most {MAX_ID_BYTES} are allowed"
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        yield (
            "page_size",
            f"is {request.page_size}; 0 (which means {DEFAULT_PAGE_SIZE}) to {MAX_PAGE_SIZE} are "
            "allowed",
        )
    if request.surface and request.surface not in SURFACE_DEADLINES_S:
        allowed = ", ".join(SURFACE_DEADLINES_S)
        yield "surface", f"is {request.surface[:80]!r}; allowed are {allowed}, or empty"
    if not is_market(request.market):
        yield "market", MARKET_FAULT
    yield from _id_faults("seed_item_ids", request.seed_item_ids, MAX_SEEDS)
    yield from _id_faults("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUDED)


def _id_faults(field: str, ids: Sequence[str], limit: int) -> Iterator[tuple[str, str]]:
    if len(ids) > limit:
        yield field, f"has {len(ids)} entries; at most {limit} are allowed"
    for place, item_id in enumerate(ids[:limit]):
        size = len(item_id.encode())
        if not 1 <= size <= MAX_ID_BYTES:
            yield f"{field}[{place}]", f"has {size} bytes; 1 to {MAX_ID_BYTES} are allowed"


def note_answer(answer: Answer) -> None:
    """Say in the request's trace what the answer is worth."""
    noted = recording.current()
    noted.note(
        {
            attributes.BUNDLE_VERSION: answer.bundle_version,
            attributes.TIER: answer.tier.name,
            attributes.RANKED_BY: answer.ranked_by.name,
            attributes.HISTORY_STATUS: answer.history.status.name,
            attributes.DEGRADED: answer.is_degraded,
            attributes.QUALITY: answer.quality,
            attributes.ITEMS: len(answer.slate.rows),
        }
    )
    if answer.is_degraded:
        noted.keep(DEGRADED)


def write_answer(answer: Answer, texts: ItemTexts) -> gateway_pb2.RecommendResponse:
    """Return the answer, identified by the current span, with the texts of its bundle."""
    ids = current_ids()
    response = gateway_pb2.RecommendResponse(
        recommendation_id=f"{ids.trace_id}-{ids.span_id}", bundle_version=answer.bundle_version
    )
    # Added in place: messages that are made first and then put into lists are copied, at each
    # level again, which took 134 us for 20 items and not 30.
    _add_items(response, answer, texts)
    _set_coverage(response.coverage, answer)
    return response


def _add_items(response: gateway_pb2.RecommendResponse, answer: Answer, texts: ItemTexts) -> None:
    slate, add = answer.slate, response.items.add
    provenance = _provenance(answer)
    for (item_id, title, artist), score in zip(
        texts.of_rows(slate.rows), slate.scores.tolist(), strict=True
    ):
        add_source = add(item_id=item_id, score=score, title=title, artist=artist).sources.add
        for source, rank, source_score in next(provenance, ()):
            if rank:
                add_source(source=source, rank=rank, score=source_score)


def _provenance(answer: Answer) -> Iterator[tuple[tuple[str, int, float], ...]]:
    """Yield what every source said of each item, rank 0 for nothing, but of those that filled."""
    places = answer.slate.places[answer.slate.places >= 0]
    return zip(
        *(
            zip(
                repeat(source),
                column.ranks.take(places).tolist(),
                column.scores.take(places).tolist(),
                strict=False,  # the name repeats for ever
            )
            for source, column in answer.ranked.columns.items()
        ),
        strict=True,
    )


def _set_coverage(coverage: gateway_pb2.Coverage, answer: Answer) -> None:
    coverage.ranked_by = _RANKED_BY[answer.ranked_by]
    coverage.degraded = answer.is_degraded
    coverage.tier = _TIERS[answer.tier]
    coverage.quality = answer.quality
    coverage.filled_from_popularity = answer.slate.filled
    coverage.ignored_item_ids = answer.subject.ignored_item_ids
    _set_duration(coverage.ranker_latency, answer.ranker.latency_s)
    coverage.history.status = _STATUSES[answer.history.status]
    _set_duration(coverage.history.latency, answer.history.latency_s)
    for source in answer.sources:
        written = coverage.sources.add(
            source=source.source,
            status=_STATUSES[source.status],
            candidates=len(source.rows),
            hedged=source.is_hedged,
        )
        _set_duration(written.latency, source.latency_s)
        _set_duration(written.data_age, source.data_age_s)


_RANKED_BY = {
    RankedBy.MODEL: gateway_pb2.RANKED_BY_MODEL,
    RankedBy.FALLBACK: gateway_pb2.RANKED_BY_FALLBACK,
}
_TIERS = {tier: common_pb2.Tier.Value(f"TIER_{tier.name}") for tier in Tier}
_STATUSES = {
    status: common_pb2.SourceStatus.Value(f"SOURCE_STATUS_{status.name}") for status in SourceStatus
}


def _set_duration(field: Duration, seconds: float | None) -> None:
    """Set a message field, to the microsecond, or leave it absent for None."""
    if seconds is not None:
        field.seconds, microseconds = divmod(round(seconds * 1e6), 1_000_000)
        field.nanos = microseconds * 1000
