"""DynamoDB's errors as a fault proxy answers them."""

import json
import zlib
from email import message_from_bytes

import pytest

from meshctl.faults import FaultKind
from meshctl.faults.dynamodb_answers import ERROR_ANSWERS


@pytest.mark.parametrize("kind", ERROR_ANSWERS)
def test_an_error_answer_is_whole_and_its_checksum_right(kind: FaultKind) -> None:
    head, _, body = ERROR_ANSWERS[kind].encode().partition(b"\r\n\r\n")

    status, _, fields = head.partition(b"\r\n")
    headers = message_from_bytes(fields)
    assert status.startswith(b"HTTP/1.1 ")
    assert headers["Content-Length"] == str(len(body))
    assert headers["x-amz-crc32"] == str(zlib.crc32(body))
    assert json.loads(body)["__type"].startswith("com.amazonaws.dynamodb.v20120810#")
