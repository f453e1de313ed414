"""Spans from OTLP/JSON, whoever wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.traces.otlp_json import spans_from, spans_of
from meshctl.traces.span import Span
from tests.otlp_lines import CLIENT, ERROR, TRACE, JsonSpan, line, request, span

ONE, TWO = "00000000000000c1", "00000000000000c2"


def read(written: JsonSpan) -> Span:
    (found,) = spans_of(request("ranker", written))
    return found


def test_a_span_is_read_with_its_service_times_and_attributes() -> None:
    values = {"text": "é", "yes": True, "whole": 2**60, "share": 0.5}

    found = read(
        span(
            ONE, TWO, "score", kind=CLIENT, ms=(2, 5), status=ERROR, attributes=values, began_ns=10
        )
    )

    assert (found.service, found.instance, found.name, found.kind) == (
        "ranker",
        "7",
        "score",
        "client",
    )
    assert (found.trace_id, found.span_id, found.parent_id) == (TRACE, ONE, TWO)
    assert (found.start_ns, found.end_ns, found.duration_ms) == (2_000_010, 5_000_010, 3.0)
    assert (found.status, found.attributes) == ("error", values)


def test_names_of_enums_and_upper_case_ids_are_understood_too() -> None:
    written = span(ONE) | {"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}}

    found = read(written | {"traceId": TRACE.upper()})

    assert (found.trace_id, found.kind, found.status) == (TRACE, "server", "error")


def test_a_list_is_read_as_its_values() -> None:
    values = [{"stringValue": "ann=OK"}, {"intValue": "3"}]
    attribute = {"key": "sources", "value": {"arrayValue": {"values": values}}}

    assert read(span(ONE) | {"attributes": [attribute]}).attributes == {"sources": ("ann=OK", 3)}


def test_events_and_links_are_read() -> None:
    event = {"name": "retry", "timeUnixNano": "5", "attributes": []}
    link = {"traceId": "ab" * 16, "spanId": ONE}

    found = read(span(ONE) | {"events": [event], "links": [link, {"traceId": "no id"}]})

    assert [(each.name, each.time_ns) for each in found.events] == [("retry", 5)]
    assert found.links == ("ab" * 16,)


@pytest.mark.parametrize(
    "fault",
    [
        {"traceId": "12"},
        {"spanId": "0" * 16},
        {"spanId": None},
        {"traceId": ["x"]},
    ],
)
def test_a_span_without_usable_ids_is_left_out_and_the_others_stay(fault: JsonSpan) -> None:
    found = list(spans_of(request("ranker", span(ONE) | fault, span(TWO))))

    assert [each.span_id for each in found] == [TWO]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": 99},
        {"status": {"code": -1}},
        {"status": "bad"},
        {"startTimeUnixNano": "9" * 5000},
        {"startTimeUnixNano": 1e300, "endTimeUnixNano": "soon"},
        {"attributes": {"a": "map"}},
        {"attributes": [{"key": 3, "value": 4}, None, {"value": {"intValue": "x"}}]},
        {"events": [{"attributes": 1}], "links": [7]},
        {"name": {"not": "a name"}},
    ],
)
def test_a_span_with_odd_fields_is_read_without_them(fault: JsonSpan) -> None:
    found = read(span(ONE) | fault)

    assert found.span_id == ONE
    assert -(2**63) <= found.start_ns < 2**64


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 5000]
)
def test_what_is_no_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        spans_from(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceSpans", "scopeSpans", "spans", "resource", "attributes"]),
            inner,
            max_size=3,
        )
    ),
)


@given(JSON)
def test_any_other_json_has_no_spans_and_is_no_error(value: object) -> None:
    assert spans_from(json.dumps(value).encode()) == []


def test_a_line_as_it_is_written_can_be_read() -> None:
    assert [each.span_id for each in spans_from(line("ranker", span(ONE), span(TWO)))] == [ONE, TWO]
