"""Trace context in and out."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from meshkit import telemetry
from meshkit.config import ConfigError

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_the_current_span_travels_as_w3c_metadata_and_is_found_again() -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("caller"):
        sent = telemetry.current_ids()
        metadata = telemetry.inject()

    received = trace.get_current_span(telemetry.extract(metadata)).get_span_context()

    ((key, value),) = metadata
    assert key == "traceparent"
    assert value.startswith(f"00-{sent.trace_id}-{sent.span_id}-")
    assert trace.format_span_id(received.span_id) == sent.span_id


def test_a_child_of_extracted_context_belongs_to_the_callers_trace() -> None:
    tracer = TracerProvider().get_tracer("test")
    context = telemetry.extract((("traceparent", TRACEPARENT), ("other-bin", b"\xff")))

    with tracer.start_as_current_span("callee", context=context):
        ids = telemetry.current_ids()

    assert ids.trace_id == TRACE_ID
    assert ids.span_id != SPAN_ID


@pytest.mark.parametrize("metadata", [None, (), (("traceparent", "nonsense"),)])
def test_a_call_without_usable_context_starts_a_trace_of_its_own(
    metadata: tuple[tuple[str, str | bytes], ...] | None,
) -> None:
    tracer = TracerProvider().get_tracer("test")

    with (
        tracer.start_as_current_span("around"),
        tracer.start_as_current_span("call", context=telemetry.extract(metadata)) as span,
    ):
        assert getattr(span, "parent", None) is None


def test_spans_have_real_ids_even_when_none_is_recorded() -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")

    with tracer.start_as_current_span("call"):
        ids = telemetry.current_ids()

    assert len(ids.trace_id) == 32
    assert len(ids.span_id) == 16
    assert set(ids.trace_id) != {"0"}
    assert set(ids.span_id) != {"0"}


def test_outside_a_span_there_is_nothing_to_send() -> None:
    assert telemetry.inject() == ()
    assert telemetry.current_ids() == telemetry.TraceIds("0" * 32, "0" * 16)


def test_a_disabled_sdk_is_refused_since_answers_carry_span_ids() -> None:
    with pytest.raises(ConfigError, match=r"OTEL_SDK_DISABLED='true'.*OTEL_TRACES_SAMPLER"):
        telemetry.setup("echo", "1", {"OTEL_SDK_DISABLED": "true"})
