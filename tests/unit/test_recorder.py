"""Which traces are exported, and what their spans look like."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from meshkit.telemetry import recording
from meshkit.telemetry.leaf_notes import NOTES_RETURNED, LeafNotes, read
from meshkit.telemetry.outgoing_call import begin_call
from meshkit.telemetry.recorder import KeepBudget, KeepRules, Recorder
from meshkit.telemetry.spans import MAX_PARTS, MAX_TEXT_CHARACTERS

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
METHOD = "test.Service/Ask"
LIMIT_S = 1_000.0
Metadata = tuple[tuple[str, str | bytes], ...]


def caller(flags: str, *also: tuple[str, str | bytes]) -> Metadata:
    return (("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-{flags}"), *also)


class Exported(SpanProcessor):
    """Keeps the spans that it is handed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    @property
    def reasons(self) -> list[object]:
        return [span.attributes["recmesh.kept"] for span in self.spans if span.attributes]


def recorder_of(
    exported: Exported | None,
    *,
    service: str = "gateway",
    keeps_served: bool = True,
    kept_per_s: float = 1_000.0,
    slow_share: float = 0.5,
) -> Recorder:
    return Recorder(
        Resource({"service.name": service, "service.instance.id": f"{service}-1", "zone": "b"}),
        ParentBased(ALWAYS_ON),
        exported,
        KeepRules(KeepBudget(kept_per_s, lambda: 0.0), slow_share),
        keeps_served=keeps_served,
    )


@pytest.fixture
def exported() -> Exported:
    return Exported()


def test_a_sampled_call_is_exported_in_its_callers_trace(exported: Exported) -> None:
    with recorder_of(exported).served(METHOD, caller("01"), LIMIT_S):
        recording.mark("stage")

    own, stage = exported.spans
    assert own.parent is not None
    assert f"{own.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {f"{span.context.trace_id:032x}" for span in exported.spans if span.context} == {
        TRACE_ID
    }
    assert (stage.name, stage.kind) == ("stage", SpanKind.INTERNAL)
    assert stage.parent is not None
    assert own.context is not None
    assert stage.parent.span_id == own.context.span_id
    assert exported.reasons == ["sampled"]


def test_a_whole_quick_unsampled_call_is_not_exported(exported: Exported) -> None:
    with recorder_of(exported).served(METHOD, caller("00"), LIMIT_S):
        recording.mark("stage")

    assert exported.spans == []


def test_degraded_failed_and_slow_calls_are_kept_the_worst_named(exported: Exported) -> None:
    recorder = recorder_of(exported)
    with recorder.served(METHOD, caller("00"), LIMIT_S) as noted:
        noted.keep("degraded")
    with recorder.served(METHOD, caller("00"), LIMIT_S) as noted:
        noted.keep("degraded")
        noted.own.fail("INTERNAL")
    with recorder.served(METHOD, caller("00"), 1e-9):
        pass

    assert exported.reasons == ["degraded", "failed", "slow"]


@pytest.mark.parametrize(("took_s", "reasons"), [(4.0, []), (6.0, ["slow"])])
def test_slow_is_what_takes_more_than_its_share_of_the_limit(
    took_s: float, reasons: list[str], exported: Exported
) -> None:
    with recorder_of(exported, slow_share=0.5).served(METHOD, caller("00"), 10.0) as noted:
        noted.own.start_ns -= int(took_s * 1e9)

    assert exported.reasons == reasons


def test_a_call_without_limit_is_never_slow(exported: Exported) -> None:
    with recorder_of(exported, slow_share=0.0).served(METHOD, caller("00")):
        pass

    assert exported.spans == []


def test_no_more_is_kept_than_the_budget_has_and_what_is_sampled_costs_none(
    exported: Exported,
) -> None:
    recorder = recorder_of(exported, kept_per_s=3.0)

    for flags in ["00"] * 10 + ["01"]:
        with recorder.served(METHOD, caller(flags), LIMIT_S) as noted:
            noted.keep("degraded")

    assert exported.reasons == ["degraded"] * 3 + ["sampled"]


def test_a_budget_renews_with_time_and_saves_up_one_second() -> None:
    now_s = [0.0]
    budget = KeepBudget(2.0, lambda: now_s[0])
    spent = [budget.spend() for _ in range(3)]
    now_s[0] = 0.5
    half_a_second_later = [budget.spend() for _ in range(2)]
    now_s[0] = 100.0
    long_after = [budget.spend() for _ in range(3)]

    assert spent == [True, True, False]
    assert half_a_second_later == [True, False]
    assert long_after == [True, True, False]


def test_a_budget_of_less_than_one_a_second_still_keeps_one_now_and_then() -> None:
    now_s = [0.0]
    budget = KeepBudget(0.1, lambda: now_s[0])
    first = [budget.spend(), budget.spend()]
    now_s[0] = 10.0

    assert [*first, budget.spend()] == [True, False, True]
    assert not KeepBudget(0.0).spend()


def test_without_a_processor_there_are_ids_and_nothing_else() -> None:
    with recorder_of(None).served(METHOD, caller("01"), LIMIT_S) as noted:
        recording.mark("stage")

    assert noted.notes == []
    assert noted.trace_id == int(TRACE_ID, 16)


def leaf_answer(
    metadata: Sequence[tuple[str, str | bytes]], exported: Exported | None
) -> bytes | None:
    """Serve a call as a leaf does; return the notes that go back."""
    leaf = recorder_of(exported, service="ranker", keeps_served=False)
    with leaf.served("test.Leaf/Do", metadata, LIMIT_S) as noted:
        noted.link(SpanContext(0xABC, 0xDEF, is_remote=False))
        recording.skip()
        recording.mark("score", {"rows": 7})
        noted.own.fail("INTERNAL")
        return leaf.notes_for_caller(noted)


def test_a_leaf_returns_notes_of_unsampled_traces_and_exports_nothing(exported: Exported) -> None:
    notes = leaf_answer(caller("00"), exported)

    assert notes is not None
    assert isinstance(read(notes), LeafNotes)
    assert exported.spans == []


@pytest.mark.parametrize("metadata", [caller("01"), ()], ids=str)
def test_a_leaf_returns_no_notes_of_sampled_traces_and_none_to_who_has_no_trace(
    metadata: Metadata, exported: Exported
) -> None:
    assert leaf_answer(metadata, exported) is None


def test_a_leaf_that_exports_nothing_takes_no_notes() -> None:
    assert leaf_answer(caller("00"), None) is None


def test_a_gateway_returns_no_notes(exported: Exported) -> None:
    gateway = recorder_of(exported)
    with gateway.served(METHOD, caller("00"), LIMIT_S) as noted:
        noted.keep("degraded")
        notes = gateway.notes_for_caller(noted)

    assert notes is None
    assert exported.reasons == ["degraded"]


def test_a_kept_trace_has_the_spans_that_leaves_returned_notes_of(exported: Exported) -> None:
    with recorder_of(exported).served(METHOD, caller("00"), LIMIT_S) as noted:
        call = begin_call("test.Leaf/Do", {})
        notes = leaf_answer(call.metadata, Exported())
        assert notes is not None
        call.end("INTERNAL", lambda: (("other", "text"), (NOTES_RETURNED, notes)))
        recording.mark("rank")
        noted.keep("degraded")

    _, client, server, stage, _ = exported.spans
    assert [span.name for span in (client, server, stage)] == ["test.Leaf/Do"] * 2 + ["score"]
    assert (server.kind, server.status.status_code) == (SpanKind.SERVER, StatusCode.ERROR)
    assert dict(server.resource.attributes) == {
        "service.name": "ranker",
        "service.instance.id": "ranker-1",
    }
    assert [link.context.span_id for link in server.links] == [0xDEF]
    assert dict(stage.attributes or {}) == {"rows": 7}
    assert server.parent is not None
    assert client.context is not None
    assert server.parent.span_id == client.context.span_id
    assert stage.parent is not None
    assert server.context is not None
    assert stage.parent.span_id == server.context.span_id


def test_a_leafs_spans_lie_in_the_middle_of_the_call(exported: Exported) -> None:
    with recorder_of(exported).served(METHOD, caller("00"), LIMIT_S) as noted:
        call = begin_call("test.Leaf/Do", {})
        notes = leaf_answer(call.metadata, Exported()) or b""
        call.end("OK", lambda: ((NOTES_RETURNED, notes),))
        noted.notes[0].end_ns += 1_000_000_000
        noted.keep("degraded")

    _, client, server, _ = exported.spans
    assert client.start_time is not None
    assert client.end_time is not None
    assert server.start_time is not None
    assert server.end_time is not None
    before, after = server.start_time - client.start_time, client.end_time - server.end_time
    assert abs(before - after) <= 1


@pytest.mark.parametrize("notes", [b"", b"garbage", b"{}"])
def test_notes_that_cannot_be_read_cost_the_leafs_spans_only(
    notes: bytes, exported: Exported
) -> None:
    with recorder_of(exported).served(METHOD, caller("00"), LIMIT_S) as noted:
        begin_call("test.Leaf/Do", {}).end("OK", lambda: ((NOTES_RETURNED, notes),))
        noted.keep("degraded")

    assert len(exported.spans) == 2


def test_what_is_noted_is_bounded_and_can_be_encoded(exported: Exported) -> None:
    with recorder_of(exported).served(METHOD, caller("01"), LIMIT_S) as noted:
        noted.note({"long": "x" * 10_000, "many": ("\ud800",) * 1_000})

    attributes = exported.spans[0].attributes or {}
    many = attributes["many"]
    assert attributes["long"] == "x" * MAX_TEXT_CHARACTERS
    assert isinstance(many, tuple)
    assert len(many) == MAX_PARTS
    assert "".join(map(str, many)).encode()


@pytest.mark.parametrize(("sent", "read_as"), [("1", 1), ("2", 2), ("nonsense", None)])
def test_a_retried_call_says_how_often_it_was_tried_before(
    sent: str, read_as: int | None, exported: Exported
) -> None:
    metadata = caller("01", ("grpc-previous-rpc-attempts", sent))
    with recorder_of(exported).served(METHOD, metadata, LIMIT_S):
        pass

    assert (exported.spans[0].attributes or {}).get("recmesh.previous_attempts") == read_as


def test_a_trace_of_our_own_has_no_parent_and_is_kept_when_it_fails(exported: Exported) -> None:
    never = Recorder(sampler=ALWAYS_OFF, processor=exported)
    with never.own("refresh"):
        pass
    with never.own("refresh") as noted:
        noted.own.fail("StoreError")

    (span,) = exported.spans
    assert (span.parent, span.kind) == (None, SpanKind.INTERNAL)
    assert exported.reasons == ["failed"]


def test_what_is_silent_is_exported_nowhere(exported: Exported) -> None:
    with recorder_of(exported).silent():
        recording.mark("stage")
        ((_, traceparent),) = begin_call("test.Leaf/Do", {}).metadata

    assert traceparent.endswith("-00")
    assert exported.spans == []


def test_a_note_that_cannot_be_exported_costs_the_trace_and_not_the_call(
    exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    odd: dict[str, Any] = {"odd": ((),)}  # parts must be texts
    with recorder_of(exported).served(METHOD, caller("01"), LIMIT_S) as noted:
        noted.note(odd)

    leaf = recorder_of(exported, keeps_served=False)
    with leaf.served(METHOD, caller("00"), LIMIT_S) as noted:
        noted.note({"odd": cast("Any", object())})
        notes = leaf.notes_for_caller(noted)

    assert notes is None
    assert exported.spans == []
    assert len(caplog.records) == 2
