"""`meshctl trace`, and `meshctl recommend --trace`, over files and over Jaeger's HTTP API."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
import typer
from recmesh.gateway.v1 import gateway_pb2 as pb
from typer.testing import CliRunner, Result

from meshctl.recommend import recommend
from meshctl.trace import trace
from tests.integration.meshkit_children import free_port
from tests.integration.scripted_gateway import ScriptedGateway, fail
from tests.otlp_lines import (
    ANSWER,
    GATEWAY,
    OTHER_TRACE,
    TRACE,
    gateway_spans,
    leaf_spans,
    line,
    request,
    write_answer,
)

TRACES = Path(".recmesh") / "traces"
NOW_NS = time.time_ns() - 60 * 10**9


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("RECMESH_TRACE_DIR", "RECMESH_JAEGER", "OTEL_BSP_SCHEDULE_DELAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "140")


def run_trace(*arguments: str) -> Result:
    app = typer.Typer()
    app.command("trace")(trace)
    return CliRunner().invoke(app, arguments)


def span_ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [span["span_id"][-2:] for span in json.loads(result.stdout)["spans"]]


ALL = ["a1", "a2", "a3", "b1", "b2", "a4"]


@pytest.mark.parametrize("id_", [TRACE, f"{TRACE}-{GATEWAY}"])
def test_either_id_shows_every_hop_in_order(id_: str) -> None:
    write_answer(TRACES)

    table, as_json = run_trace(id_), run_trace(id_, "--json")

    assert span_ids(as_json) == ALL
    assert "candidates-ann" in table.stdout
    assert (
        "40.0 ms, tier PERSONAL, not degraded, kept: sampled, 6 spans of 2 services" in table.stdout
    )
    assert "missing" not in table.stdout


def test_last_shows_the_newest_answer_also_of_the_demo() -> None:
    write_answer(TRACES, TRACE, NOW_NS)
    write_answer(Path(".recmesh") / "demo" / "traces", OTHER_TRACE, NOW_NS + 10**9)

    shown = run_trace("--last", "--json")

    assert span_ids(shown) == ALL
    assert json.loads(shown.stdout)["trace_id"] == OTHER_TRACE


def test_spans_that_come_late_are_waited_for() -> None:
    TRACES.mkdir(parents=True)
    (TRACES / "gateway-17.jsonl").write_bytes(line("gateway", *gateway_spans()))
    late = line("candidates-ann", *leaf_spans())
    writing = threading.Timer(0.4, (TRACES / "candidates-ann-18.jsonl").write_bytes, [late])
    writing.start()

    shown = run_trace(TRACE, "--json")

    writing.join()
    assert span_ids(shown) == ALL
    assert json.loads(shown.stdout)["complete"]


def test_what_never_came_is_said() -> None:
    TRACES.mkdir(parents=True)
    (TRACES / "gateway-17.jsonl").write_bytes(line("gateway", *gateway_spans(began_ns=NOW_NS)))

    table, as_json = run_trace(TRACE), run_trace(TRACE, "--json")

    assert "missing: the span of ann, which answered" in table.stdout
    assert json.loads(as_json.stdout)["missing"] == ["the span of ann, which answered"]


def test_no_such_trace_is_an_error_that_says_what_to_check() -> None:
    write_answer(TRACES)

    result = run_trace("ab" * 16)

    assert result.exit_code == 1
    assert f"error: no trace {'ab' * 16}" in result.stderr
    assert "--directory" in result.stderr
    assert "--jaeger URL" in result.stderr


def test_where_no_mesh_has_run_it_says_so() -> None:
    for arguments in ([TRACE], ["--last"]):
        result = run_trace(*arguments)

        assert result.exit_code == 1
        assert "no mesh has run here: there is no .recmesh/traces" in result.stderr


def test_a_bad_id_says_both_forms() -> None:
    result = run_trace("r-42")

    assert result.exit_code == 2
    words = " ".join(result.stderr.replace("│", " ").split())
    assert "32 hexadecimal digits" in words
    assert "16 hexadecimal digits" in words


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [TRACE, "--last"],
        ["--last", "--jaeger", "jaeger:16686"],
        ["--last", "--jaeger", "http://127.0.0.1:1", "--directory", "x"],
    ],
)
def test_commands_that_say_too_little_or_too_much_are_refused(arguments: list[str]) -> None:
    assert run_trace(*arguments).exit_code == 2


@dataclass(slots=True)
class StandInJaeger:
    """A web server with Jaeger's routes: what a path answers is `pages`, else "not found"."""

    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Content type and content by path."""
    asked: list[tuple[str, Mapping[str, list[str]]]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, value: object) -> None:
        self.pages[path] = ("text/plain", json.dumps(value).encode())


@pytest.fixture
def jaeger() -> Iterator[StandInJaeger]:
    with serving(StandInJaeger()) as stand_in:
        yield stand_in


@contextmanager
def serving(stand_in: StandInJaeger) -> Iterator[StandInJaeger]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            stand_in.asked.append((parts.path, parse_qs(parts.query)))
            status = 200 if parts.path in stand_in.pages else 404
            kind, content = stand_in.pages.get(parts.path, ("text/plain", b'{"error": {}}'))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the server names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def otlp_answer() -> dict[str, object]:
    gateway, leaf = request("gateway", *gateway_spans()), request("candidates-ann", *leaf_spans())
    return {"resourceSpans": [*gateway["resourceSpans"], *leaf["resourceSpans"]]}  # type: ignore[misc]  # lists, as written


def older_answer() -> dict[str, object]:
    """Return the answer as `/api/traces` has it."""
    spans = [
        {
            "traceID": each["traceId"],
            "spanID": each["spanId"],
            "operationName": each["name"],
            "references": [
                {"refType": "CHILD_OF", "traceID": TRACE, "spanID": each["parentSpanId"]}
            ],
            "startTime": int(str(each["startTimeUnixNano"])) // 1000,
            "duration": 1000,
            "tags": [{"key": "span.kind", "value": "server" if each["kind"] == 2 else "internal"}],
            "processID": process,
        }
        for process, written in (("p1", gateway_spans()), ("p2", leaf_spans()))
        for each in written
    ]
    processes = {"p1": {"serviceName": "gateway"}, "p2": {"serviceName": "candidates-ann"}}
    return {"data": [{"traceID": TRACE, "spans": spans, "processes": processes}]}


@pytest.mark.parametrize("has_wrapper", [True, False])
def test_a_trace_is_read_from_jaeger(jaeger: StandInJaeger, has_wrapper: bool) -> None:
    found = otlp_answer()
    jaeger.answer(f"/api/v3/traces/{TRACE}", {"result": found} if has_wrapper else found)

    shown = run_trace(f"{TRACE}-{GATEWAY}", "--jaeger", f"{jaeger.url}/", "--json")

    assert span_ids(shown) == ALL


@pytest.mark.parametrize("shows_its_page", [True, False])
def test_a_trace_is_read_from_an_older_jaeger(jaeger: StandInJaeger, shows_its_page: bool) -> None:
    jaeger.answer(f"/api/traces/{TRACE}", older_answer())
    if shows_its_page:
        jaeger.pages[f"/api/v3/traces/{TRACE}"] = ("text/html; charset=utf-8", b"<!doctype html>")

    shown = run_trace(TRACE, "--jaeger", jaeger.url, "--json")

    assert set(span_ids(shown)) == set(ALL)
    assert json.loads(shown.stdout)["services"] == ["gateway", "candidates-ann"]


def test_the_last_answer_is_asked_of_jaeger(
    jaeger: StandInJaeger, monkeypatch: pytest.MonkeyPatch
) -> None:
    jaeger.answer("/api/v3/traces", {"result": otlp_answer()})
    jaeger.answer(f"/api/v3/traces/{TRACE}", {"result": otlp_answer()})
    monkeypatch.setenv("RECMESH_JAEGER", jaeger.url)

    shown = run_trace("--last", "--json")

    assert span_ids(shown) == ALL
    (path, query), *_ = jaeger.asked
    assert path == "/api/v3/traces"
    for service, operation in (
        ("query.serviceName", "query.operationName"),
        ("query.service_name", "query.operation_name"),
    ):
        assert (query[service], query[operation]) == (["gateway"], [ANSWER])
    assert query["query.startTimeMin"] < query["query.startTimeMax"]


def test_the_last_answer_is_asked_of_an_older_jaeger(jaeger: StandInJaeger) -> None:
    jaeger.pages["/api/v3/traces"] = ("text/html", b"<!doctype html>")
    jaeger.answer("/api/traces", older_answer())
    jaeger.answer(f"/api/traces/{TRACE}", older_answer())

    shown = run_trace("--last", "--jaeger", jaeger.url, "--json")

    assert set(span_ids(shown)) == set(ALL)
    query = next(query for path, query in jaeger.asked if path == "/api/traces")
    assert query["service"] == ["gateway"]


def test_a_jaeger_that_is_not_there_is_an_error_with_its_usual_port() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    result = run_trace(TRACE, "--jaeger", url)

    assert result.exit_code == 1
    assert f"Jaeger at {url} cannot be reached" in result.stderr
    assert "16686" in result.stderr


def test_what_is_not_jaeger_is_an_error(jaeger: StandInJaeger) -> None:
    jaeger.pages[f"/api/v3/traces/{TRACE}"] = ("text/plain", b"hello")

    result = run_trace(TRACE, "--jaeger", jaeger.url)

    assert result.exit_code == 1
    assert "does not answer JSON; is this Jaeger?" in result.stderr


def traced(request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
    """Answer as a gateway that writes its trace to files."""
    del request
    trace_id = trace_id_of(context)
    write_answer(TRACES, trace_id)
    return pb.RecommendResponse(
        recommendation_id=f"{trace_id}-{GATEWAY}", items=[pb.Item(item_id="t1", title="Song")]
    )


def trace_id_of(context: grpc.ServicerContext) -> str:
    metadata = dict(context.invocation_metadata())
    version, trace_id, _, flags = str(metadata["traceparent"]).split("-")
    assert (version, flags) == ("00", "01")
    return trace_id


def run_recommend(gateway: ScriptedGateway, *arguments: str) -> Result:
    app = typer.Typer()
    app.command("recommend")(recommend)
    return CliRunner().invoke(app, [*arguments, "--address", gateway.address])


def test_recommend_shows_the_slate_and_where_its_time_went() -> None:
    with ScriptedGateway(traced).serving() as gateway:
        table = run_recommend(gateway, "u1", "--trace")
        as_json = run_recommend(gateway, "u1", "--trace", "--json")

    assert table.exit_code == 0, table.output
    assert table.stdout.index("Song") < table.stdout.index("fan_out")
    answer = json.loads(as_json.stdout)
    assert [item["item_id"] for item in answer["items"]] == ["t1"]
    assert answer["recommendation_id"] == f"{answer['trace']['trace_id']}-{GATEWAY}"
    assert len(answer["trace"]["spans"]) == 6


def test_recommend_asks_for_a_trace_of_one_user_and_not_of_many(tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u1\nu2\n")
    with ScriptedGateway(traced).serving() as gateway:
        one = run_recommend(gateway, "u1", "--json")
        gateway.default = lambda _request, _context: pb.RecommendResponse()
        run_recommend(gateway, "--users", "users.txt", "--jsonl", "out.jsonl")

    assert "trace" not in json.loads(one.stdout)
    assert ["traceparent" in each for each in gateway.metadata] == [True, False, False]


def test_a_call_that_failed_shows_its_trace_too() -> None:
    failure = fail(grpc.StatusCode.INTERNAL, "no")

    def step(request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        write_answer(TRACES, trace_id_of(context))
        return failure(request, context)

    with ScriptedGateway(step).serving() as gateway:
        result = run_recommend(gateway, "u1", "--trace")

    assert result.exit_code == 1
    assert result.stderr.index("error:") < result.stderr.index("fan_out")


def test_an_answer_whose_trace_is_not_found_is_shown_and_the_exit_status_is_1() -> None:
    (TRACES).mkdir(parents=True)
    answer = pb.RecommendResponse(
        recommendation_id=f"{TRACE}-{GATEWAY}", items=[pb.Item(title="Song")]
    )
    with ScriptedGateway(lambda _request, _context: answer).serving() as gateway:
        table = run_recommend(gateway, "u1", "--trace")
        as_json = run_recommend(gateway, "u1", "--trace", "--json")

    assert (table.exit_code, as_json.exit_code) == (1, 1)
    assert "Song" in table.stdout
    assert f"error: no trace {TRACE}" in table.stderr
    assert json.loads(as_json.stdout)["trace"] is None


def test_a_trace_of_many_users_is_refused() -> None:
    Path("users.txt").write_text("u1\n")
    with ScriptedGateway(traced).serving() as gateway:
        result = run_recommend(gateway, "--users", "users.txt", "--jsonl", "o", "--trace")

    assert result.exit_code == 2
    assert gateway.requests == []
