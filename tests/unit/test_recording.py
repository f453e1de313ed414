"""A recording: what it notes, whose child that is, and when it is finished."""

import asyncio
import contextvars
from collections.abc import Generator
from typing import Any

import pytest
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from meshkit.telemetry import recording
from meshkit.telemetry.notes import Note
from meshkit.telemetry.outgoing_call import OutgoingCall, begin_call
from meshkit.telemetry.recording import UNRECORDED, Mode, Recording

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
METHOD = "test.LeafService/Ask"
SAMPLED = Mode(is_sampled=True, is_recording=True)
UNSAMPLED = Mode(is_sampled=False, is_recording=True)
CALLER = SpanContext(
    TRACE_ID, 0xB7, True, TraceFlags(TraceFlags.SAMPLED), TraceState([("vendor", "said")])
)


class Finished:
    """Keeps what was finished."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []

    def __call__(self, finished: Recording) -> None:
        self.recordings.append(finished)


def recording_of(
    mode: Mode = SAMPLED, finish: Any = None, parent: SpanContext | None = None
) -> Recording:
    return Recording("Serve", SpanKind.SERVER, TRACE_ID, parent, mode, finish or Finished())


def call_leaf(code: str = "OK") -> OutgoingCall:
    call = begin_call(METHOD, {})
    call.end(code)
    return call


def by_name(noted: Recording) -> dict[str, Note]:
    return {note.name: note for note in noted.notes}


def test_a_stage_begins_where_the_one_before_it_ended() -> None:
    with recording_of() as noted:
        recording.mark("first")
        recording.mark("second", {"count": 3})

    first, second = noted.notes
    assert (first.start_ns, first.end_ns) == (noted.own.start_ns, second.start_ns)
    assert second.attributes == {"count": 3}
    assert {first.parent_id, second.parent_id} == {noted.own.span_id}
    assert first.span_id != second.span_id


def test_skipped_time_belongs_to_no_stage() -> None:
    with recording_of() as noted:
        recording.skip()
        recording.mark("first")

    assert noted.notes[0].start_ns > noted.own.start_ns


def test_a_call_is_a_child_of_the_stage_in_which_it_began() -> None:
    with recording_of() as noted:
        recording.mark("before")
        late = begin_call(METHOD, {"leaf": "ann"})
        recording.mark("fan_out")
        recording.mark("merge")
        late.end("OK")

    notes = by_name(noted)
    assert notes[METHOD].parent_id == notes["fan_out"].span_id
    assert notes[METHOD].end_ns > notes["merge"].end_ns
    assert notes[METHOD].attributes["leaf"] == "ann"


def test_calls_of_a_stage_that_never_ended_are_the_served_calls_own() -> None:
    with recording_of() as noted:
        recording.mark("before")
        call_leaf()

    assert by_name(noted)[METHOD].parent_id == noted.own.span_id


def test_a_stage_whose_work_fails_is_an_error() -> None:
    with recording_of() as noted:
        with pytest.raises(KeyError), recording.stage("read"):
            raise KeyError
        with recording.stage("read again"):
            pass

    failed, again = noted.notes
    assert (failed.is_error, failed.attributes) == (True, {"error.type": "KeyError"})
    assert not again.is_error


@pytest.mark.parametrize(("code", "is_error"), [("OK", False), ("NOT_FOUND", True)])
def test_a_call_that_did_not_end_well_is_an_error(code: str, is_error: bool) -> None:
    with recording_of() as noted:
        call_leaf(code)

    assert noted.notes[0].is_error == is_error
    assert noted.notes[0].attributes["rpc.response.status_code"] == code


def test_a_sampled_call_tells_its_callee_so_and_what_other_systems_passed_along() -> None:
    with recording_of(SAMPLED, parent=CALLER) as noted:
        call = begin_call(METHOD, {})
        span_id = noted.notes[0].span_id
        metadata = call.metadata
        call.end("OK", tuple)

    assert metadata == (
        ("traceparent", f"00-{TRACE_ID:032x}-{span_id:016x}-01"),
        ("tracestate", "vendor=said"),
    )
    assert noted.notes[0].returned is None


def test_an_unsampled_call_says_so_and_knows_where_its_callees_notes_are() -> None:
    with recording_of(UNSAMPLED) as noted:
        call = begin_call(METHOD, {})
        metadata = call.metadata
        call.end("OK", tuple)

    ((_, traceparent),) = metadata
    assert traceparent.endswith("-00")
    assert noted.notes[0].returned is tuple


def test_notes_stay_the_same_however_often_they_are_read() -> None:
    with recording_of() as noted:
        recording.mark("first")
        first = noted.notes[0]
        recording.mark("second")

    assert noted.notes[0] is first
    assert [note.name for note in noted.notes] == ["first", "second"]


def test_where_nothing_is_recorded_the_ids_travel_all_the_same() -> None:
    with recording_of(UNRECORDED) as noted:
        recording.mark("stage")
        metadata = begin_call(METHOD, {}).metadata

    assert metadata == (("traceparent", f"00-{TRACE_ID:032x}-{noted.own.span_id:016x}-00"),)
    assert noted.notes == []


def test_outside_a_served_call_everything_is_forgotten() -> None:
    recording.mark("stage")
    recording.current().note({"a": 1})
    call = call_leaf()

    assert call.metadata == ()
    assert recording.current().notes == []
    assert recording.current().own.attributes == {}


def test_a_recording_is_current_in_tasks_and_not_after_its_end() -> None:
    async def work() -> Recording:
        return recording.current()

    async def check() -> None:
        with recording_of() as noted:
            assert await asyncio.ensure_future(work()) is noted
        assert recording.current() is not noted

    asyncio.run(check())


def test_it_is_finished_once_handler_work_and_every_call_have_ended() -> None:
    finished = Finished()

    async def check() -> None:
        work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with recording_of(finish=finished) as noted:
            noted.hold_until(work)
            call = begin_call(METHOD, {})
        ended_ns = noted.own.end_ns
        assert finished.recordings == []
        work.set_result(None)
        await asyncio.sleep(0)
        assert finished.recordings == []
        call.end("OK")
        assert finished.recordings == [noted]
        assert noted.own.end_ns == ended_ns

    asyncio.run(check())


def test_a_call_that_begins_after_the_end_makes_no_orphan() -> None:
    finished = Finished()
    with recording_of(SAMPLED, finished) as noted:
        late = contextvars.copy_context()

    call = late.run(begin_call, METHOD, {})
    call.end("OK")

    assert noted.notes == []
    assert call.metadata[0][1].endswith("-00")
    assert finished.recordings == [noted]


def test_a_handler_that_is_thrown_away_elsewhere_still_ends_its_recording() -> None:
    finished = Finished()

    def handler() -> Generator[None, None, None]:
        with recording_of(finish=finished):
            yield

    running = handler()
    contextvars.copy_context().run(next, running)
    running.close()

    assert len(finished.recordings) == 1


def test_the_least_limit_counts() -> None:
    noted = recording_of()

    noted.limit(0.2)
    noted.limit(0.15)
    noted.limit(5.0)

    assert noted.limit_s == 0.15
