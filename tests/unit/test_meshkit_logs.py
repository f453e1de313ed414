"""Log lines."""

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from meshkit.config import ConfigError
from meshkit.logs import setup_logs

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN = NonRecordingSpan(SpanContext(TRACE_ID, 0xB7AD6B7169203331, False, TraceFlags(1)))


@pytest.fixture(autouse=True)
def restored_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # else setup_logs would close pytest's own
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_readable_line_holds_time_level_service_and_trace_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logs("echo", {})

    with trace.use_span(SPAN):
        logging.getLogger("part").warning("three of %d", 4)

    line = capsys.readouterr().err
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING echo part: three of 4 "
        r"trace_id=0af7651916cd43dd8448eb211c80319c\n"
    )
    assert re.fullmatch(pattern, line)


def test_a_record_outside_a_span_has_no_trace_id(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("echo", {})

    logging.getLogger("part").info("hello")

    assert capsys.readouterr().err.endswith("INFO echo part: hello\n")


def test_json_holds_the_same_facts_in_fields(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("echo", {"RECMESH_LOG_FORMAT": "json"})

    with trace.use_span(SPAN):
        logging.getLogger("part").error("three of %d", 4)

    record = json.loads(capsys.readouterr().err)
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "ERROR",
        "service": "echo",
        "logger": "part",
        "message": "three of 4",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_line_breaks_and_tracebacks_stay_on_one_line(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logs("echo", {"RECMESH_LOG_FORMAT": log_format})

    try:
        os.environ["LOST"]
    except KeyError:
        logging.getLogger("part").exception("first\nsecond\r\nthird")

    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "KeyError: 'LOST'" in written


def test_records_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("echo", {"RECMESH_LOG_LEVEL": "error"})

    logging.getLogger("part").warning("quiet")

    assert capsys.readouterr().err == ""


def test_an_unknown_format_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"RECMESH_LOG_FORMAT='xml': .*allowed: text, json"):
        setup_logs("echo", {"RECMESH_LOG_FORMAT": "xml"})
