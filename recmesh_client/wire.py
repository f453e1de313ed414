"""Between Python values and the contract's messages; nothing here waits or connects."""

from collections.abc import Iterable, Mapping, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import (
    error_details_pb2,
    status_pb2,
)
from recmesh.gateway.v1 import gateway_pb2

from recmesh_client.errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidRequest,
    Overloaded,
    RecommendError,
    ServerFault,
    Unavailable,
)
from recmesh_client.results import (
    Coverage,
    HistoryCoverage,
    Provenance,
    RankedBy,
    Recommendation,
    RecommendedItem,
    SourceCoverage,
    SourceStatus,
    Tier,
)

_STATUS_DETAILS_TRAILER = "grpc-status-details-bin"  # where gRPC carries google.rpc.Status

FieldValue = str | int | Sequence[str]


def request_of(fields: Mapping[str, FieldValue]) -> gateway_pb2.RecommendRequest:
    """Build a request; limits are the gateway's to check.

    Raises InvalidRequest for a value that protobuf cannot carry (a number beyond 32 bits, a
    lone surrogate), and TypeError for one of a wrong type.
    """
    for name in ("seed_item_ids", "exclude_item_ids"):
        if isinstance(fields[name], str):
            raise TypeError(f"{name}: need a sequence of item ids, got the string {fields[name]!r}")
    try:
        return gateway_pb2.RecommendRequest(**fields)  # type: ignore[arg-type]  # protobuf checks each value
    except ValueError:
        violations = tuple(_unfit(fields))
        raise InvalidRequest(_summary(violations), violations=violations) from None


def _unfit(fields: Mapping[str, FieldValue]) -> Iterable[FieldViolation]:
    for name, value in fields.items():
        try:
            gateway_pb2.RecommendRequest(**{name: value})  # type: ignore[arg-type]  # as above
        except ValueError as exc:
            yield FieldViolation(name, str(exc))


def recommendation_from(response: gateway_pb2.RecommendResponse) -> Recommendation:
    """Read an answer into values of our own."""
    return Recommendation(
        recommendation_id=response.recommendation_id,
        bundle_version=response.bundle_version,
        items=tuple(_item_from(item) for item in response.items),
        coverage=_coverage_from(response.coverage),
    )


def _item_from(item: gateway_pb2.Item) -> RecommendedItem:
    return RecommendedItem(
        item_id=item.item_id,
        score=item.score,
        sources=tuple(Provenance(p.source, p.rank, p.score) for p in item.sources),
        title=item.title,
        artist=item.artist,
    )


def _coverage_from(coverage: gateway_pb2.Coverage) -> Coverage:
    return Coverage(
        sources=tuple(_source_from(source) for source in coverage.sources),
        ranked_by=RankedBy(coverage.ranked_by),
        ranker_latency_s=_seconds(coverage.ranker_latency, coverage.HasField("ranker_latency")),
        degraded=coverage.degraded,
        filled_from_popularity=coverage.filled_from_popularity,
        ignored_item_ids=coverage.ignored_item_ids,
        tier=Tier(coverage.tier),
        quality=coverage.quality or None,
        history=HistoryCoverage(
            SourceStatus(coverage.history.status),
            _seconds(coverage.history.latency, coverage.history.HasField("latency")),
        ),
    )


def _source_from(source: gateway_pb2.SourceCoverage) -> SourceCoverage:
    return SourceCoverage(
        source=source.source,
        status=SourceStatus(source.status),
        latency_s=_seconds(source.latency, source.HasField("latency")),
        candidates=source.candidates,
        data_age_s=_seconds(source.data_age, source.HasField("data_age")),
        hedged=source.hedged,
    )


def _seconds(duration: Duration, is_present: bool) -> float | None:
    return duration.seconds + duration.nanos / 1e9 if is_present else None


def error_from(failure: grpc.aio.AioRpcError) -> RecommendError:
    """Say in our own words what a failed call means."""
    code = failure.code()
    message = f"{code.name}: {failure.details() or 'no details'}"
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            violations = _violations(failure)
            return InvalidRequest(_summary(violations) or message, violations=violations)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(message, retry_after_s=_retry_after_s(failure))
        # A server that stops mid-call, or a proxy before it, may say CANCELLED; we never cancel.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unavailable(message, code=code)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(message)
        case _:
            return ServerFault(message, code=code)


def _summary(violations: tuple[FieldViolation, ...]) -> str:
    return "; ".join(f"{v.field}: {v.description}" for v in violations)


def _violations(failure: grpc.aio.AioRpcError) -> tuple[FieldViolation, ...]:
    bad_request = error_details_pb2.BadRequest()
    return tuple(
        FieldViolation(violation.field, violation.description)
        for detail in _status(failure).details
        if detail.Unpack(bad_request)
        for violation in bad_request.field_violations
    )


def _retry_after_s(failure: grpc.aio.AioRpcError) -> float | None:
    retry_info = error_details_pb2.RetryInfo()
    for detail in _status(failure).details:
        if detail.Unpack(retry_info):
            return _seconds(retry_info.retry_delay, is_present=True)
    return None


def _status(failure: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in failure.trailing_metadata() or ():
        if key == _STATUS_DETAILS_TRAILER:
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()
