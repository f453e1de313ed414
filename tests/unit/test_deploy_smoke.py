"""What `deploy.compose.smoke` reads in the answers of Jaeger and Prometheus."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.compose import smoke

TRACE = {
    "data": [
        {
            "traceID": "0123456789abcdef0123456789abcdef",
            "spans": [
                {"spanID": "1", "processID": "p1"},
                {"spanID": "2", "processID": "p2"},
                {"spanID": "3", "processID": "p2"},
            ],
            "processes": {
                "p1": {"serviceName": "gateway"},
                "p2": {"serviceName": "ranker"},
                "p3": {"serviceName": "mentioned, but without a span"},
            },
        }
    ],
    "errors": None,
}


def target(job: str, health: str, error: str = "") -> dict[str, object]:
    return {"labels": {"job": job, "instance": "a:1"}, "health": health, "lastError": error}


def targets(*active: dict[str, object]) -> dict[str, object]:
    return {"status": "success", "data": {"activeTargets": list(active), "droppedTargets": []}}


def test_services_of_a_trace_are_those_with_spans() -> None:
    assert smoke.services_of(TRACE) == {"gateway", "ranker"}


def test_a_trace_that_is_not_there_yet_has_no_services() -> None:
    assert smoke.services_of({"data": None, "errors": [{"code": 404}]}) == set()


def test_a_target_that_cannot_be_read_is_named_with_the_reason() -> None:
    answer = targets(target("mesh", "up"), target("collector", "down", "connection refused"))

    assert smoke.bad_targets(answer) == ["collector: connection refused"]
    assert smoke.bad_targets(targets(target("mesh", "unknown"))) == ["mesh: unknown"]
    assert smoke.bad_targets(targets(target("mesh", "up"))) == []


def test_no_target_is_not_all_targets_up() -> None:
    assert smoke.bad_targets(targets()) == ["no target at all"]


def test_an_empty_result_is_no_data() -> None:
    sample = {"metric": {}, "value": [1, "2"]}

    assert smoke.has_data({"data": {"resultType": "vector", "result": [sample]}})
    assert not smoke.has_data({"data": {"resultType": "vector", "result": []}})
    assert not smoke.has_data(None)


def test_what_is_no_json_or_not_there_is_no_answer() -> None:
    with web_server({"/json": b'{"a": 1}', "/text": b"starting"}) as url:
        assert smoke.get(f"{url}/json") == {"a": 1}
        assert smoke.get(f"{url}/text") is None
        assert smoke.get(f"{url}/missing") is None
    assert smoke.get(f"{url}/json") is None


def test_panels_without_any_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = [
        {"title": "full", "targets": [{"expr": "nothing"}, {"expr": "up"}]},
        {"title": "empty", "targets": [{"expr": "rate(nothing[$__rate_interval])"}]},
        {"title": "a row"},
    ]
    (tmp_path / "board.json").write_text(json.dumps({"panels": panels}))
    answers = {
        "/api/v1/query?query=up": b'{"data": {"result": [{"value": [1, "1"]}]}}',
        "/api/v1/query?query=nothing": b'{"data": {"result": []}}',
        "/api/v1/query?query=rate%28nothing%5B1m%5D%29": b'{"data": {"result": []}}',
    }

    with web_server(answers) as url:
        monkeypatch.setattr(smoke, "PROMETHEUS", url)
        assert smoke.empty_panels(tmp_path) == ["board: empty"]


@contextmanager
def web_server(answers: dict[str, bytes]) -> Iterator[str]:
    """Answer GET from `answers`, by path and query; 404 otherwise."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
