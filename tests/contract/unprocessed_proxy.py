"""A proxy before a DynamoDB engine that leaves parts of batches undone, as DynamoDB may."""

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit


class UnprocessedProxy:
    """Passes requests on to `endpoint`, but of `refusals` batches only the first half.

    The first `spared` batches are passed on whole.
    A batch of one is refused whole. `is_silent` takes requests and never answers. The first
    `late` requests are answered after `late_s`, once passed on.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        refusals: int = 0,
        spared: int = 0,
        is_silent: bool = False,
        late: int = 0,
        late_s: float = 0.5,
    ) -> None:
        self.refused = 0
        self.requests = 0
        self.closing = threading.Event()
        self.is_silent = is_silent
        self.late_s = late_s
        self._late = late
        self.target = urlsplit(endpoint).netloc
        self._refusals = refusals
        self._spared = spared
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

    def allow(self, *, refusals: int) -> None:
        """Refuse so many more."""
        with self._lock:
            self._refusals += refusals

    def is_late(self) -> bool:
        return self.requests <= self._late

    def refuse(self) -> bool:
        with self._lock:
            self._spared -= 1
            if self._spared >= 0 or self.refused >= self._refusals:
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
            halve = {"BatchWriteItem": self._write_half, "BatchGetItem": self._get_half}.get(
                self.headers["X-Amz-Target"].rpartition(".")[2]
            )
            is_late = proxy.is_late()
            answer = halve(body) if halve and proxy.refuse() else self._pass_on(body)
            if is_late:
                proxy.closing.wait(proxy.late_s)
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is theirs
            pass

        def _write_half(self, body: bytes) -> tuple[int, bytes]:
            ((table, rows),) = json.loads(body)["RequestItems"].items()
            taken = rows[: len(rows) // 2]
            if taken:
                self._pass_on(json.dumps({"RequestItems": {table: taken}}).encode())
            left = {"UnprocessedItems": {table: rows[len(taken) :]}}
            return 200, json.dumps(left).encode()

        def _get_half(self, body: bytes) -> tuple[int, bytes]:
            ((table, request),) = json.loads(body)["RequestItems"].items()
            half = len(request["Keys"]) // 2
            taken = {table: {**request, "Keys": request["Keys"][:half]}}
            answer: dict[str, object] = {"Responses": {}}
            if half:
                answer = json.loads(self._pass_on(json.dumps({"RequestItems": taken}).encode())[1])
            answer["UnprocessedKeys"] = {table: {**request, "Keys": request["Keys"][half:]}}
            return 200, json.dumps(answer).encode()

        def _pass_on(self, body: bytes) -> tuple[int, bytes]:
            connection = HTTPConnection(proxy.target, timeout=60)
            kept = ("X-Amz-Target", "Content-Type", "Authorization", "X-Amz-Date")
            headers = {name: self.headers[name] for name in kept}
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            result = answer.status, answer.read()
            connection.close()
            return result

    return Handler
