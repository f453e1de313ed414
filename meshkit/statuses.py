"""From an error to the gRPC status that a caller may see; no other text leaves the process."""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from meshkit.errors import (
    CallerError,
    DependencyTimeout,
    DependencyUnavailable,
    InvalidFields,
    NotReady,
    Overloaded,
    VersionNotHeld,
)

# Status and details travel as trailing metadata, of which a peer accepts 8 KiB by default and
# fails the call beyond. The message is percent-encoded (up to 3 bytes each) and the details,
# which repeat it, base64-encoded (4 bytes for 3): these limits come to 5.7 KiB at worst.
MAX_MESSAGE_BYTES = 512
MAX_VIOLATIONS = 8
MAX_FIELD_BYTES = 64
MAX_DESCRIPTION_BYTES = 256

INTERNAL_ERROR = "internal error"

# The first class that fits decides. No text: the error's own message, written for the caller.
_STATUSES: tuple[tuple[type[BaseException], grpc.StatusCode, str | None], ...] = (
    (VersionNotHeld, grpc.StatusCode.FAILED_PRECONDITION, None),
    (CallerError, grpc.StatusCode.INVALID_ARGUMENT, None),
    (DependencyTimeout, grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"),
    (DependencyUnavailable, grpc.StatusCode.UNAVAILABLE, "dependency unavailable"),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
    (NotReady, grpc.StatusCode.UNAVAILABLE, "not ready"),
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the code that `error` is answered with."""
    return next(
        (code for kind, code, _ in _STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL
    )


def status_of(error: BaseException) -> grpc.Status:
    """Return the status that `error` is answered with, details included."""
    packed = [_packed(detail) for detail in _details_of(error)]
    status = Status(code=code_of(error).value[0], message=_message_of(error), details=packed)
    sendable: grpc.Status = rpc_status.to_status(status)
    return sendable


def status_code(code: grpc.StatusCode | int | None) -> grpc.StatusCode:
    """Return what a call context's `code()` means: servers report a code, its number, or None."""
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _message_of(error: BaseException) -> str:
    for kind, _, text in _STATUSES:
        if isinstance(error, kind):
            return _cut(str(error), MAX_MESSAGE_BYTES) if text is None else text
    return INTERNAL_ERROR


def _details_of(error: BaseException) -> list[Message]:
    if isinstance(error, InvalidFields):
        return [_bad_request(error)]
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        return [RetryInfo(retry_delay=delay)]
    return []


def _bad_request(error: InvalidFields) -> BadRequest:
    violations = [
        BadRequest.FieldViolation(
            field=_cut(each.field, MAX_FIELD_BYTES),
            description=_cut(each.description, MAX_DESCRIPTION_BYTES),
        )
        for each in error.violations[:MAX_VIOLATIONS]
    ]
    return BadRequest(field_violations=violations)


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def _cut(text: str, limit_bytes: int) -> str:
    """Return `text` within `limit_bytes` of UTF-8, whatever characters it holds."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode("utf-8")
    return encoded[: limit_bytes - 3].decode("utf-8", "ignore") + "..."
