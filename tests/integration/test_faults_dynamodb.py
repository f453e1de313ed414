"""A fault proxy before DynamoDB: boto3 takes what it answers for DynamoDB's own."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshctl.faults import Fault, FaultKind, FaultLevel
from services.candidates.adapters.dynamodb_client import (
    BULK_READ_TIMEOUT_S,
    TOTAL_ATTEMPTS,
    dynamodb_client,
    translated_errors,
)
from services.candidates.domain.trending import (
    TrendingStoreThrottledError,
    TrendingStoreUnavailableError,
)
from tests.integration.fault_proxies import FaultProxy, fault_proxy
from tests.integration.meshkit_children import DEADLINE_S, wait_until

KEY = {"id": {"S": "a"}}


@pytest.fixture(scope="module")
def engine_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    with (
        EmbeddedDynamodb() as engine,
        fault_proxy(
            tmp_path_factory.mktemp("dynamodb"), FaultLevel.DYNAMODB, engine.address
        ) as started,
    ):
        with client_of(started) as client:
            client.create_table(
                TableName="songs",
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        yield started


@pytest.fixture
def proxy(engine_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy before a DynamoDB with an empty table, healed at the end."""
    yield engine_proxy
    engine_proxy.control.clear()
    engine_proxy.control.wait_applied()


@contextmanager
def client_of(proxy: FaultProxy, read_timeout_s: float = BULK_READ_TIMEOUT_S) -> Iterator[Any]:
    with closing(
        dynamodb_client(f"http://{proxy.address}", read_timeout_s=read_timeout_s)
    ) as client:
        yield client


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Any]:
    # The engine is slow where DynamoDB is not: reads get the time that bulk work gets.
    with client_of(proxy) as opened:
        yield opened


def put(client: Any, text: str) -> Any:
    return client.put_item(TableName="songs", Item={**KEY, "text": {"S": text}})


def stored_text(client: Any) -> str:
    text: str = client.get_item(TableName="songs", Key=KEY)["Item"]["text"]["S"]
    return text


def test_requests_and_answers_pass_when_no_fault_is_set(client: Any, proxy: FaultProxy) -> None:
    before = proxy.control.fresh_counts().calls
    text = "é" * 100_000  # more than one read of a socket

    put(client, text)
    found = stored_text(client)

    after = proxy.control.fresh_counts().calls
    assert found == text
    assert after["PutItem"] == before.get("PutItem", 0) + 1
    assert after["GetItem"] == before.get("GetItem", 0) + 1


def test_errors_of_the_engine_pass_as_they_are(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_item(TableName="nothing", Key=KEY)


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        (FaultKind.ERRORS, "InternalServerError", 500),
        (FaultKind.THROTTLE, "ProvisionedThroughputExceededException", 400),
    ],
)
def test_boto3_knows_the_error_retries_it_and_raises_it(
    client: Any, proxy: FaultProxy, kind: FaultKind, error: str, status: int
) -> None:
    put(client, "before")
    before = proxy.control.fresh_counts().faults.get(kind, 0)

    with (
        proxy.control.injected(Fault(kind)),
        pytest.raises(getattr(client.exceptions, error)) as raised,
    ):
        put(client, "lost")

    answer = raised.value.response
    assert isinstance(raised.value, ClientError)
    assert answer["Error"]["Code"] == error
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["ResponseMetadata"]["RetryAttempts"] == TOTAL_ATTEMPTS - 1
    assert answer["ResponseMetadata"]["RequestId"]
    assert proxy.control.fresh_counts().faults[kind] == before + TOTAL_ATTEMPTS
    assert stored_text(client) == "before"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.ERRORS, TrendingStoreUnavailableError),
        (FaultKind.THROTTLE, TrendingStoreThrottledError),
    ],
)
def test_the_stores_classify_an_injected_error_as_dynamodbs(
    client: Any, proxy: FaultProxy, kind: FaultKind, error: type[Exception]
) -> None:
    with proxy.control.injected(Fault(kind)), pytest.raises(error), translated_errors("put"):
        put(client, "lost")


def test_answered_requests_share_a_connection(client: Any, proxy: FaultProxy) -> None:
    before = proxy.control.fresh_counts().connections

    with proxy.control.injected(Fault(FaultKind.ERRORS)):
        for _ in range(3):
            with pytest.raises(ClientError):
                put(client, "lost")

    assert proxy.control.fresh_counts().connections == before + 1


def test_a_share_of_requests_fails(client: Any, proxy: FaultProxy) -> None:
    before = proxy.control.fresh_counts()

    with proxy.control.injected(Fault(FaultKind.ERRORS, share=0.5)):
        for _ in range(20):  # that all fail, or none, happens once in half a million runs
            fails_or_not(client)

    after = proxy.control.fresh_counts()
    assert (
        0
        < after.faults["errors"] - before.faults.get("errors", 0)
        < after.calls["PutItem"] - before.calls.get("PutItem", 0)
    )


def fails_or_not(client: Any) -> None:
    try:
        put(client, "any")
    except ClientError:
        return


def test_a_hanging_request_times_out_and_changes_nothing(client: Any, proxy: FaultProxy) -> None:
    put(client, "before")

    with (
        proxy.control.injected(Fault(FaultKind.HANG)),
        client_of(proxy, read_timeout_s=0.2) as impatient,
        pytest.raises(ReadTimeoutError),
    ):
        put(impatient, "lost")

    assert stored_text(client) == "before"


def test_hanging_connections_are_closed_when_the_fault_ends(client: Any, proxy: FaultProxy) -> None:
    put(client, "before")
    before = proxy.control.fresh_counts().faults.get("hang", 0)
    proxy.control.set(Fault(FaultKind.HANG))
    proxy.control.wait_applied()

    with client_of(proxy, read_timeout_s=2 * DEADLINE_S) as patient, ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(put, patient, "retried")
        wait_until(lambda: proxy.control.counts().faults.get("hang", 0) > before)
        proxy.control.clear()
        answer = hanging.result(DEADLINE_S)

    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert stored_text(client) == "retried"


class KeepAlive(BaseHTTPRequestHandler):
    """Answers with the body, and keeps connections unless asked to close them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is theirs
        pass


def test_an_engine_that_keeps_connections_is_asked_to_close_them(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), KeepAlive) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        upstream = f"127.0.0.1:{engine.server_port}"
        with fault_proxy(tmp_path, FaultLevel.DYNAMODB, upstream) as proxy:
            connection = HTTPConnection(proxy.address, timeout=DEADLINE_S)
            bodies = []
            for body in (b"one", b"two"):
                connection.request("POST", "/", body, {"Connection": "keep-alive"})
                bodies.append(connection.getresponse().read())
            connection.close()
        engine.shutdown()

    assert bodies == [b"one", b"two"]


def test_a_dynamodb_that_is_gone_is_a_closed_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine:
        upstream = f"127.0.0.1:{engine.getsockname()[1]}"
        with fault_proxy(tmp_path, FaultLevel.DYNAMODB, upstream) as proxy:
            engine.close()

            with client_of(proxy) as client, pytest.raises(ConnectionClosedError):
                client.list_tables()
