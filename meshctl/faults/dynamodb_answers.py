"""What DynamoDB answers when it cannot or will not serve a request."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from meshctl.faults.fault import FaultKind

_NAMESPACE = "com.amazonaws.dynamodb.v20120810"
_REQUEST_ID = "INJECTEDFAULT".ljust(52, "0")
"""As long as DynamoDB's own, which say nothing either."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """One error of DynamoDB's API."""

    status: int
    reason: str
    error: str
    message: str

    def encode(self) -> bytes:
        """Return the answer as HTTP/1.1 carries it."""
        fields = {"__type": f"{_NAMESPACE}#{self.error}", "message": self.message}
        body = json.dumps(fields).encode()
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\n"
            "Server: Server\r\n"
            "Content-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: keep-alive\r\n"
            f"x-amzn-RequestId: {_REQUEST_ID}\r\n"
            f"x-amz-crc32: {zlib.crc32(body)}\r\n"
            "\r\n"
        )
        return head.encode("ascii") + body


ERROR_ANSWERS: Mapping[FaultKind, ErrorAnswer] = {
    FaultKind.ERRORS: ErrorAnswer(
        500,
        "Internal Server Error",
        "InternalServerError",
        "The request processing has failed because of an unknown error, exception or failure.",
    ),
    FaultKind.THROTTLE: ErrorAnswer(
        400,
        "Bad Request",
        "ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput for the table was exceeded. "
        "Consider increasing your provisioning level with the UpdateTable API.",
    ),
}
