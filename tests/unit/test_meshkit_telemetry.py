"""What a process sets up for its traces."""

from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from meshkit import telemetry
from meshkit.config import ConfigError
from meshkit.telemetry.recorder import Recorder

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


def test_a_served_calls_ids_are_current_for_us_and_for_others() -> None:
    with Recorder().served("Do", ()):
        ids = telemetry.current_ids()
        seen_by_others = trace.get_current_span().get_span_context()

    assert len(ids.trace_id) == 32
    assert len(ids.span_id) == 16
    assert set(ids.trace_id) != {"0"}
    assert set(ids.span_id) != {"0"}
    assert trace.format_trace_id(seen_by_others.trace_id) == ids.trace_id
    assert trace.format_span_id(seen_by_others.span_id) == ids.span_id


def test_a_span_that_others_made_current_is_ours_too() -> None:
    span = NonRecordingSpan(SpanContext(TRACE_ID, 0xB7, is_remote=False))

    with trace.use_span(span):
        ids = telemetry.current_ids()

    assert ids == telemetry.TraceIds(f"{TRACE_ID:032x}", f"{0xB7:016x}")


def test_outside_a_call_there_are_no_ids() -> None:
    with Recorder().served("Do", ()):
        pass

    assert telemetry.current_ids() == telemetry.TraceIds("0" * 32, "0" * 16)
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_disabled_sdk_is_refused_since_answers_carry_span_ids() -> None:
    with pytest.raises(ConfigError, match=r"OTEL_SDK_DISABLED='true'.*OTEL_TRACES_SAMPLER"):
        telemetry.setup("echo", "1", {"OTEL_SDK_DISABLED": "true"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RECMESH_SLOW_SHARE", "1.5"),
        ("RECMESH_SLOW_SHARE", "half"),
        ("RECMESH_KEPT_PER_S", "-1"),
    ],
)
def test_a_bad_setting_is_refused_by_name(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{variable}='{value}'"):
        telemetry.setup("echo", "1", {variable: value, "RECMESH_TRACE_DIR": str(tmp_path)})
