"""The caller's trace is read as OpenTelemetry reads it, whatever a caller sends."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshkit.telemetry.trace_context import parent_of

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
USUAL = f"00-{TRACE_ID}-{SPAN_ID}-01"
near_misses = st.builds(
    lambda version, trace_id, span_id, flags, rest: f"{version}-{trace_id}-{span_id}-{flags}{rest}",
    st.sampled_from(["00", "01", "ff", "0"]),
    st.sampled_from([TRACE_ID, TRACE_ID.upper(), "0" * 32, TRACE_ID[1:]]),
    st.sampled_from([SPAN_ID, "0" * 16, SPAN_ID + "0"]),
    st.from_regex(re.compile("[0-9a-f]{2}"), fullmatch=True),
    st.sampled_from(["", " ", "\n", "-more", "x"]),
)
states = st.none() | st.sampled_from(["", "vendor=said", "not a state", "a=" + "b" * 600])


def as_opentelemetry_reads_it(metadata: dict[str, str]) -> SpanContext | None:
    context = TraceContextTextMapPropagator().extract(metadata)
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


@given(near_misses | st.text(), states)
@example(USUAL, None)
@example(USUAL, "vendor=said")
@example(f" {USUAL}\t", None)
def test_it_is_what_opentelemetry_reads(parent: str, state: str | None) -> None:
    metadata = {"traceparent": parent} | ({} if state is None else {"tracestate": state})

    assert parent_of(metadata) == as_opentelemetry_reads_it(metadata)


def test_the_usual_form_is_read() -> None:
    parent = parent_of({"traceparent": USUAL, "user-agent": "any"})

    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert parent.is_remote
    assert parent.trace_flags.sampled


@pytest.mark.parametrize("metadata", [{}, {"traceparent": ""}, {"tracestate": "vendor=said"}])
def test_without_a_parent_there_is_none(metadata: dict[str, str]) -> None:
    assert parent_of(metadata) is None
