"""RankerService: proto to domain and back."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from meshkit.call_log import CallLog
from meshkit.columns import append_floats
from meshkit.errors import VersionNotHeld
from meshkit.fields import FieldFaults
from meshkit.shelf import Shelf
from meshkit.telemetry import recording
from services import attributes
from services.ranker.domain.rank import rank
from services.ranker.domain.values import ItemTables, RankingQuery, ScoringModel, SourceColumn
from signals.limits import (
    MARKET_FAULT,
    MAX_CANDIDATES,
    MAX_SOURCES,
    history_faults,
    is_market,
    row_faults,
)


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model and its tables, of one bundle."""

    tables: ItemTables
    model: ScoringModel


class RankerServicer(ranker_pb2_grpc.RankerServiceServicer):
    """Answers `Rank` from the bundle versions that this process holds.

    `ranked` hears of every batch: how many candidates, and the seconds that it took.
    """

    def __init__(
        self, held: Shelf[HeldModel], call_log: CallLog, ranked: Callable[[int, float], None]
    ) -> None:
        self._held = held
        self._call_log = call_log
        self._ranked = ranked

    def Rank(  # noqa: N802 - gRPC's own name
        self, request: ranker_pb2.RankRequest, _context: grpc.ServicerContext
    ) -> ranker_pb2.RankResponse:
        """Return the model's score of every row."""
        held = self._held.get(request.bundle_version)
        if held is None:
            raise VersionNotHeld(
                f"bundle_version {request.bundle_version[:80]!r} is not held here; "
                f"held: {', '.join(self._held.versions())}"
            )
        query = read_query(request, held.tables.n_items)
        self._call_log.note("served", request.bundle_version)
        recording.skip()
        began_s = time.monotonic()
        scores = rank(query, held.tables, _Traced(held.model))
        self._ranked(len(scores), time.monotonic() - began_s)
        response = ranker_pb2.RankResponse(bundle_version=request.bundle_version)
        append_floats(response, "scores", scores)
        return response


@dataclass(frozen=True, slots=True)
class _Traced:
    """A model whose work is a stage of its own, after the one that made its features."""

    model: ScoringModel

    @property
    def scorer(self) -> str:
        """What the model says."""
        return self.model.scorer

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the model does."""
        recording.mark("features", {attributes.CANDIDATES_IN: len(features)})
        scores = self.model.score(features)
        recording.mark(
            "score", {attributes.CANDIDATES_OUT: len(scores), attributes.SCORER: self.scorer}
        )
        return scores


def read_query(request: ranker_pb2.RankRequest, n_items: int) -> RankingQuery:
    """Return the query of a request, or raise InvalidFields."""
    rows = np.array(request.rows, dtype=np.uint32)
    history_rows = np.array(request.history.rows, dtype=np.uint32)
    ages_s = np.array(request.history.ages_s, dtype=np.float32)
    faults = FieldFaults()
    faults.require(len(rows) > 0, "rows", f"is empty; 1 to {MAX_CANDIDATES} are needed")
    faults.note(row_faults("rows", rows, n_items, MAX_CANDIDATES))
    faults.require(_are_distinct(rows), "rows", "holds a row more than once")
    faults.note(history_faults(history_rows, ages_s, request.history.seen_filter, n_items))
    faults.require(is_market(request.market), "market", MARKET_FAULT)
    names = [each.source for each in request.sources]
    columns = [_read_column(each) for each in request.sources]
    faults.note(_source_faults(names, columns, len(rows)))
    faults.refuse()
    return RankingQuery(rows, dict(zip(names, columns, strict=True)), history_rows, ages_s)


def _are_distinct(rows: NDArray[np.uint32]) -> bool:
    ordered = np.sort(rows)  # np.unique takes 12 times as long
    return not (ordered[1:] == ordered[:-1]).any()


def _read_column(column: ranker_pb2.SourceColumn) -> SourceColumn:
    return SourceColumn(
        np.array(column.ranks, dtype=np.uint32), np.array(column.scores, dtype=np.float32)
    )


def _source_faults(
    names: Sequence[str], columns: Sequence[SourceColumn], n_rows: int
) -> Iterator[tuple[str, str]]:
    if len(names) > MAX_SOURCES:
        yield "sources", f"has {len(names)} entries; at most {MAX_SOURCES} are allowed"
    if len(set(names)) != len(names):
        yield "sources", "names a source more than once"
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        field = f"sources[{place}]"
        if not name:
            yield f"{field}.source", "is empty; a source's name is needed"
        if not len(column.ranks) == len(column.scores) == n_rows:
            yield field, f"needs {n_rows} ranks and scores, one a row"
        if not np.isfinite(column.scores).all():
            yield f"{field}.scores", "holds a value that is not finite"
