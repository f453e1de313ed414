"""What a trace is called on the command line, and by a call that asks to be recorded."""

import re

import pytest

from meshctl.traces.trace_name import TraceName, parse_trace_name, recorded_call
from tests.otlp_lines import GATEWAY, TRACE


def test_a_trace_id_names_the_whole_trace() -> None:
    assert parse_trace_name(TRACE) == TraceName(TRACE)


def test_a_recommendation_id_names_what_is_below_the_gateways_span() -> None:
    assert parse_trace_name(f"{TRACE}-{GATEWAY}") == TraceName(TRACE, GATEWAY)


def test_ids_may_be_pasted_in_upper_case_with_spaces() -> None:
    assert parse_trace_name(f" {TRACE.upper()}-{GATEWAY.upper()}\n") == TraceName(TRACE, GATEWAY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        TRACE[:-1],
        f"{TRACE}0",
        f"{TRACE}-",
        f"{TRACE}-{GATEWAY[1:]}",
        f"{TRACE}-{GATEWAY}-1",
        f"-{GATEWAY}",
        TRACE.replace("0", "g"),
        TRACE.replace("1", "\u0661"),  # a digit, but none of ours
    ],
)
def test_anything_else_is_refused_with_both_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"trace id \(32 hex.*recommendation id .*16 hex"):
        parse_trace_name(text)


def test_a_recorded_call_has_a_new_sampled_context_each_time() -> None:
    first, second = recorded_call(), recorded_call()

    ((key, context),) = first.metadata
    assert key == "traceparent"
    assert re.fullmatch(rf"00-{first.trace_id}-[0-9a-f]{{16}}-01", context)
    assert first.trace_id != second.trace_id
