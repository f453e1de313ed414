"""CandidateService: proto to domain and back."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2, candidates_pb2_grpc
from recmesh.common.v1 import common_pb2

from meshkit.call_log import CallLog
from meshkit.columns import append_floats, append_uints
from meshkit.errors import VersionNotHeld
from meshkit.fields import FieldFaults
from meshkit.shelf import Shelf
from meshkit.telemetry import recording
from meshkit.telemetry.notes import Value
from services import attributes
from services.candidates.domain.values import Candidates, CandidateSource, Query
from signals.limits import (
    MARKET_FAULT,
    MAX_CANDIDATES,
    MAX_EXCLUDED,
    history_faults,
    is_market,
    row_faults,
)
from signals.tiers import Tier

_TIERS = {tier: common_pb2.Tier.Value(f"TIER_{tier.name}") for tier in Tier}


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A source over one bundle."""

    source: CandidateSource
    n_items: int
    closing: ExitStack
    """Ends what the source keeps running."""


class CandidateServicer(candidates_pb2_grpc.CandidateServiceServicer):
    """Answers `Generate` from the bundle versions that this process holds."""

    def __init__(self, held: Shelf[HeldSource], call_log: CallLog) -> None:
        self._held = held
        self._call_log = call_log

    def Generate(  # noqa: N802 - gRPC's own name
        self, request: candidates_pb2.GenerateRequest, _context: grpc.ServicerContext
    ) -> candidates_pb2.GenerateResponse:
        """Return one source's candidates."""
        held = self._held.get(request.bundle_version)
        if held is None:
            raise VersionNotHeld(
                f"bundle_version {request.bundle_version[:80]!r} is not held here; "
                f"held: {', '.join(self._held.versions())}"
            )
        query = read_query(request, held.n_items)
        self._call_log.note("served", request.bundle_version)
        recording.skip()
        candidates = held.source.generate(query)
        note_candidates(candidates)
        return write_response(candidates, request.bundle_version)


def read_query(request: candidates_pb2.GenerateRequest, n_items: int) -> Query:
    """Return the query of a request, or raise InvalidFields."""
    history = request.history
    history_rows = np.array(history.rows, dtype=np.uint32)
    ages_s = np.array(history.ages_s, dtype=np.float32)
    exclude_rows = np.array(request.exclude_rows, dtype=np.uint32)
    faults = FieldFaults()
    faults.require(
        1 <= request.limit <= MAX_CANDIDATES,
        "limit",
        f"is {request.limit}; 1 to {MAX_CANDIDATES} are allowed",
    )
    faults.note(history_faults(history_rows, ages_s, history.seen_filter, n_items))
    faults.note(row_faults("exclude_rows", exclude_rows, n_items, MAX_EXCLUDED))
    faults.require(is_market(request.market), "market", MARKET_FAULT)
    faults.refuse()
    return Query(request.limit, history_rows, history.seen_filter, exclude_rows, request.market)


def note_candidates(candidates: Candidates) -> None:
    """Say in the call's trace what was retrieved."""
    noted: dict[str, Value] = {
        attributes.CANDIDATES_OUT: len(candidates.rows),
        attributes.TIER: candidates.tier.name,
    }
    if candidates.data_age_s is not None:
        noted[attributes.DATA_AGE] = round(candidates.data_age_s, 3)
    recording.mark("retrieve", noted)


def write_response(candidates: Candidates, bundle_version: str) -> candidates_pb2.GenerateResponse:
    """Return the candidates as columns."""
    response = candidates_pb2.GenerateResponse(
        bundle_version=bundle_version,
        is_stale=candidates.is_stale,
        tier=_TIERS[candidates.tier],
    )
    append_uints(response, "rows", candidates.rows)
    append_floats(response, "scores", candidates.scores)
    if candidates.data_age_s is not None:
        response.data_age.FromTimedelta(timedelta(seconds=candidates.data_age_s))
    return response
