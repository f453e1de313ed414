"""What a caller may see of an error, and nothing else."""

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from meshkit import errors
from meshkit.errors import FieldViolation, InvalidFields
from meshkit.statuses import status_code, status_of

LEAK = "hunter2 at 10.0.0.7"
METADATA_LIMIT_BYTES = 8192


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.CallerError("said"), grpc.StatusCode.INVALID_ARGUMENT, "said"),
        (errors.VersionNotHeld("no v2"), grpc.StatusCode.FAILED_PRECONDITION, "no v2"),
        (errors.DependencyTimeout(LEAK), grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"),
        (errors.Overloaded(LEAK), grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
        (errors.NotReady(LEAK), grpc.StatusCode.UNAVAILABLE, "not ready"),
        (
            errors.DependencyUnavailable(LEAK),
            grpc.StatusCode.UNAVAILABLE,
            "dependency unavailable",
        ),
        (errors.DependencyError(LEAK), grpc.StatusCode.INTERNAL, "internal error"),
        (errors.MeshError(LEAK), grpc.StatusCode.INTERNAL, "internal error"),
        (KeyError(LEAK), grpc.StatusCode.INTERNAL, "internal error"),
    ],
)
def test_each_error_has_one_code_and_only_a_callers_fault_keeps_its_words(
    error: Exception, code: grpc.StatusCode, message: str
) -> None:
    status = status_of(error)

    assert (status.code, status.details) == (code, message)
    assert LEAK.encode() not in status.trailing_metadata[0][1]


def test_invalid_fields_carry_every_violation() -> None:
    error = InvalidFields(
        [
            FieldViolation("page_size", "300 is more than 200"),
            FieldViolation("market", "'XXX' is not two letters"),
        ]
    )

    status = status_of(error)

    assert status.details == "page_size: 300 is more than 200; market: 'XXX' is not two letters"
    assert [(each.field, each.description) for each in bad_request(status).field_violations] == [
        ("page_size", "300 is more than 200"),
        ("market", "'XXX' is not two letters"),
    ]


def test_overload_tells_when_to_come_back() -> None:
    status = status_of(errors.Overloaded(retry_after_s=0.25))

    detail = RetryInfo()
    assert Status.FromString(status.trailing_metadata[0][1]).details[0].Unpack(detail)
    assert detail.retry_delay.ToMilliseconds() == 250


@pytest.mark.parametrize("text", ["x" * 10_000, "\N{PILE OF POO}" * 5_000, "\udcff" * 5_000])
def test_however_much_is_wrong_the_status_fits_into_trailing_metadata(text: str) -> None:
    violations = [FieldViolation(f"exclude_item_ids[{n}]{text}", text) for n in range(1_000)]

    status = status_of(InvalidFields(violations))

    message_bytes = 3 * len(status.details.encode())
    details_bytes = 4 * len(status.trailing_metadata[0][1]) // 3
    assert message_bytes + details_bytes < METADATA_LIMIT_BYTES
    assert len(bad_request(status).field_violations) > 1


def test_invalid_fields_without_a_violation_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        InvalidFields([])


@pytest.mark.parametrize(
    ("reported", "code"),
    [
        (None, grpc.StatusCode.OK),
        (0, grpc.StatusCode.OK),
        (5, grpc.StatusCode.NOT_FOUND),
        (grpc.StatusCode.ABORTED, grpc.StatusCode.ABORTED),
        (999, grpc.StatusCode.UNKNOWN),
    ],
)
def test_codes_are_understood_however_a_server_reports_them(
    reported: grpc.StatusCode | int | None, code: grpc.StatusCode
) -> None:
    assert status_code(reported) is code


def bad_request(status: grpc.Status) -> BadRequest:
    detail = BadRequest()
    assert Status.FromString(status.trailing_metadata[0][1]).details[0].Unpack(detail)
    return detail
