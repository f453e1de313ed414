"""A drill reads from the gateway's own spans how long calls took that ended in a certain way."""

import json
from pathlib import Path

import pytest

from meshctl.drills.served_spans import durations_s
from meshctl.traces.span import ANSWER


def span(name: str, code: str, milliseconds: float) -> dict[str, object]:
    return {
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": str(1_000_000_000 + int(milliseconds * 1e6)),
        "attributes": [{"key": "rpc.response.status_code", "value": {"stringValue": code}}],
    }


def write(path: Path, *spans: dict[str, object]) -> None:
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [each]}]} for each in spans]}
    path.write_text(json.dumps(request) + "\n")


def test_only_answers_of_gateways_that_ended_with_the_code_count(tmp_path: Path) -> None:
    shed = "RESOURCE_EXHAUSTED"
    write(tmp_path / "gateway-7.jsonl", span(ANSWER, shed, 2.0), span(ANSWER, "OK", 9.0))
    write(tmp_path / "gateway-7.jsonl.1", span(ANSWER, shed, 4.0), span("another", shed, 9.0))
    write(tmp_path / "ranker-8.jsonl", span(ANSWER, shed, 9.0))

    assert sorted(durations_s(tmp_path, shed)) == pytest.approx([0.002, 0.004])


def test_without_traces_there_is_nothing(tmp_path: Path) -> None:
    assert durations_s(tmp_path, "OK") == []
