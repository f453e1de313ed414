"""Notes that return to a caller: small, without secrets, and read with care."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, SpanKind

from meshkit.telemetry import leaf_notes
from meshkit.telemetry.leaf_notes import MAX_BYTES, Origin
from meshkit.telemetry.notes import Event, Value
from meshkit.telemetry.recording import Mode, Recording

ORIGIN = Origin("candidates-ann", "host-7")
LINK = SpanContext(0xABC, 0xDEF, is_remote=False)
MODE = Mode(is_sampled=False, is_recording=True, returns_notes=True)


def recording_of(**attributes: Value) -> Recording:
    noted = Recording("Serve", SpanKind.SERVER, 1, None, MODE, lambda _: None)
    noted.own.attributes = {"rpc.method": "test.LeafService/Ask", **attributes}
    return noted


def written(noted: Recording) -> bytes:
    notes = leaf_notes.write(noted, ORIGIN)
    assert notes is not None
    return notes


def test_notes_are_read_as_they_were_written() -> None:
    noted = recording_of(count=3, names=("a", "b"), is_late=True, share=0.5)
    noted.own.is_error = True
    noted.link(LINK)
    noted.skip()
    noted.mark("retrieve", {"rows": 200})
    noted.mark("sort", error_type="KeyError")

    read = leaf_notes.read(written(noted))

    assert read is not None
    assert read.origin == ORIGIN
    assert read.own.name == "test.LeafService/Ask"
    assert read.own.span_id == noted.own.span_id
    assert read.own.attributes == noted.own.attributes
    assert read.own.is_error
    assert [(link.trace_id, link.span_id) for link in read.own.links] == [(0xABC, 0xDEF)]
    assert [(note.name, note.attributes) for note in read.stages] == [
        ("retrieve", {"rows": 200}),
        ("sort", {"error.type": "KeyError"}),
    ]
    assert [note.is_error for note in read.stages] == [False, True]
    assert read.stages[0].end_ns == read.stages[1].start_ns > 0
    assert {note.parent_id for note in read.stages} == {noted.own.span_id}
    assert all(0 <= note.start_ns <= note.end_ns <= read.own.end_ns + 1 for note in read.stages)


def test_an_errors_text_stays_here() -> None:
    noted = recording_of()
    noted.own.fail("INTERNAL", "hunter2")
    said = {
        "exception.type": "RuntimeError",
        "exception.message": "hunter2",
        "exception.stacktrace": "hunter2",
    }
    noted.own.events = (Event("exception", noted.own.start_ns, said),)

    notes = written(noted)
    read = leaf_notes.read(notes)

    assert b"hunter2" not in notes
    assert read is not None
    assert read.own.events[0].attributes == {"exception.type": "RuntimeError"}


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_notes_fit_into_a_trailer_whatever_is_noted(size: int) -> None:
    noted = recording_of()
    for place in range(size):
        noted.mark(f"stage {place}", {"text": "x" * size})

    notes = written(noted)
    read = leaf_notes.read(notes)

    assert len(notes) <= MAX_BYTES
    assert read is not None
    assert read.own.span_id == noted.own.span_id


@given(st.binary(max_size=200))
def test_bytes_that_are_no_notes_are_none(sent: bytes) -> None:
    assert leaf_notes.read(sent) is None


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(["s", "i", "id", "at", "us", "e", "a", "x", "l", "t"]), JSON)
def test_notes_with_anything_wrong_in_them_raise_nothing(field: str, wrong: Any) -> None:
    noted = recording_of()
    noted.mark("stage", {"count": 1})
    said = json.loads(written(noted))

    read = leaf_notes.read(json.dumps({**said, field: wrong}).encode())

    assert read is None or 0 <= read.own.span_id < 2**64


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("id", 2**64),
        ("id", -1),
        ("us", -1),
        ("us", 10**18),
        ("l", [[2**128, 1]]),
        ("at", -1),
        ("t", [["stage", 0, 0, 1, None, None]]),
        ("t", [["stage", 0, 2**62, 2**62, None, None]]),
        ("a", {"count": 2**63}),
    ],
)
def test_numbers_that_no_span_can_hold_are_refused(field: str, wrong: Any) -> None:
    said = json.loads(written(recording_of()))

    assert leaf_notes.read(json.dumps({**said, field: wrong}).encode()) is None


def test_notes_nested_beyond_measure_are_none() -> None:
    assert leaf_notes.read(b"[" * 1_000) is None
    assert leaf_notes.read(b"[" * 1_000_000) is None
