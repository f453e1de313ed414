"""Spans from the JSON of Jaeger's older API."""

import json

from hypothesis import given
from hypothesis import strategies as st

from meshctl.traces.jaeger_json import spans_of
from tests.otlp_lines import TRACE

PROCESS = {
    "serviceName": "ranker",
    "tags": [{"key": "service.instance.id", "type": "string", "value": "7"}],
}
SPAN = {
    "traceID": TRACE.lstrip("0"),
    "spanID": "c1",
    "operationName": "score",
    "references": [
        {"refType": "CHILD_OF", "traceID": "cd" * 16, "spanID": "d2"},
        {"refType": "CHILD_OF", "traceID": TRACE.lstrip("0"), "spanID": "a1"},
        {"refType": "FOLLOWS_FROM", "traceID": "ab" * 16, "spanID": "d1"},
    ],
    "startTime": 1_700_000_000_000_001,
    "duration": 2500,
    "tags": [
        {"key": "span.kind", "type": "string", "value": "server"},
        {"key": "error", "type": "bool", "value": True},
        {"key": "otel.status_code", "type": "string", "value": "ERROR"},
        {"key": "otel.status_description", "type": "string", "value": "broken"},
        {"key": "recmesh.rows", "type": "int64", "value": 500},
    ],
    "logs": [
        {"timestamp": 1_700_000_000_000_002, "fields": [{"key": "event", "value": "loaded"}]},
    ],
    "processID": "p1",
}


def answer(*spans: object) -> dict[str, object]:
    return {
        "data": [{"traceID": TRACE, "spans": spans and list(spans), "processes": {"p1": PROCESS}}]
    }


def test_a_span_is_read_as_from_otlp() -> None:
    (found,) = spans_of(answer(SPAN))

    assert (found.trace_id, found.span_id, found.parent_id) == (
        TRACE,
        f"{'c1':0>16}",
        f"{'a1':0>16}",
    )
    assert (found.service, found.instance, found.name, found.kind) == (
        "ranker",
        "7",
        "score",
        "server",
    )
    assert (found.start_ns, found.duration_ms) == (1_700_000_000_000_001_000, 2.5)
    assert (found.status, found.status_message) == ("error", "broken")
    assert found.attributes == {"recmesh.rows": 500}
    assert [event.name for event in found.events] == ["loaded"]
    assert found.links == ("cd" * 16, "ab" * 16)


def test_spans_without_ids_are_left_out_and_odd_fields_ignored() -> None:
    odd = {"traceID": TRACE, "spanID": "c2", "processID": 5, "tags": {}, "references": "none"}

    found = list(spans_of(answer({"traceID": TRACE}, {"spanID": "c3"}, "no span", odd)))

    assert [(each.span_id[-2:], each.service, each.parent_id) for each in found] == [
        ("c2", "unknown_service", "")
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "spans", "processes", "tags"]), inner, max_size=3
        )
    ),
)


@given(JSON)
def test_any_other_json_has_no_spans_and_is_no_error(value: object) -> None:
    assert list(spans_of(json.loads(json.dumps(value)))) == []
