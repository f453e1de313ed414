"""A proxy before a DynamoDB engine that leaves rows of batches unprocessed, as DynamoDB may."""

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit


class UnprocessedProxy:
    """Passes requests on to `endpoint`, but of the first `refusals` batches only the first half.

    A batch of one row is refused whole. `is_silent` takes requests and never answers.
    """

    def __init__(self, endpoint: str, *, refusals: int, is_silent: bool = False) -> None:
        self.refused = 0
        self.requests = 0
        self.closing = threading.Event()
        self.is_silent = is_silent
        self.target = urlsplit(endpoint).netloc
        self._refusals = refusals
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def refuse(self) -> bool:
        with self._lock:
            if self.refused >= self._refusals:
                return False
            self.refused += 1
            return True


def _handler_of(proxy: UnprocessedProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            proxy.requests += 1
            if proxy.is_silent:
                proxy.closing.wait()
                return
            is_batch = self.headers["X-Amz-Target"].endswith("BatchWriteItem")
            answer = self._refuse(body) if is_batch and proxy.refuse() else self._pass_on(body)
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is theirs
            pass

        def _refuse(self, body: bytes) -> tuple[int, bytes]:
            ((table, rows),) = json.loads(body)["RequestItems"].items()
            taken = rows[: len(rows) // 2]
            if taken:
                self._pass_on(json.dumps({"RequestItems": {table: taken}}).encode())
            left = {"UnprocessedItems": {table: rows[len(taken) :]}}
            return 200, json.dumps(left).encode()

        def _pass_on(self, body: bytes) -> tuple[int, bytes]:
            connection = HTTPConnection(proxy.target, timeout=10)
            kept = ("X-Amz-Target", "Content-Type", "Authorization", "X-Amz-Date")
            headers = {name: self.headers[name] for name in kept}
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            result = answer.status, answer.read()
            connection.close()
            return result

    return Handler
