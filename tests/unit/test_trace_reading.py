"""Traces in local files, as several processes leave them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshctl.traces.files import WAIT_S, TraceFiles, wait_s_from
from meshctl.traces.span import Span
from meshctl.traces.store import TraceStoreError
from tests.otlp_lines import (
    OTHER_TRACE,
    TRACE,
    gateway_spans,
    leaf_spans,
    line,
    span,
    write_answer,
)

NOW_NS = 1_700_000_000_000_000_000


def ids(spans: Sequence[Span]) -> set[str]:
    return {each.span_id[-2:] for each in spans}


def test_a_trace_is_put_together_from_the_files_of_all_processes(tmp_path: Path) -> None:
    write_answer(tmp_path)
    write_answer(tmp_path, OTHER_TRACE)

    found = TraceFiles([tmp_path]).spans(TRACE)

    assert ids(found) == {"a1", "a2", "a3", "a4", "b1", "b2"}
    assert {each.service for each in found} == {"gateway", "candidates-ann"}


def test_a_file_that_was_full_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "ranker-5.jsonl.1").write_bytes(line("ranker", span("00000000000000c1")))
    (tmp_path / "ranker-5.jsonl").write_bytes(line("ranker", span("00000000000000c2")))

    assert ids(TraceFiles([tmp_path]).spans(TRACE)) == {"c1", "c2"}


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    files, path = TraceFiles([tmp_path]), tmp_path / "ranker-5.jsonl"
    whole, half = line("ranker", span("00000000000000c1")), line("ranker", span("00000000000000c2"))
    path.write_bytes(whole + half[:40])
    before = ids(files.spans(TRACE))

    path.write_bytes(whole + half)

    assert before == {"c1"}
    assert ids(files.spans(TRACE)) == {"c1", "c2"}
    assert files.faults() == ()


def test_spans_of_a_file_that_is_rotated_while_waiting_come_once(tmp_path: Path) -> None:
    files, path = TraceFiles([tmp_path]), tmp_path / "ranker-5.jsonl"
    path.write_bytes(line("ranker", span("00000000000000c1")))
    files.spans(TRACE)

    path.replace(tmp_path / "ranker-5.jsonl.1")
    path.write_bytes(line("ranker", span("00000000000000c2")))

    assert [each.span_id[-2:] for each in files.spans(TRACE)] == ["c1", "c2"]


def test_a_broken_line_costs_only_itself_and_is_named(tmp_path: Path) -> None:
    broken = b'{"resourceSpans": [' + TRACE.encode() + b"\n"
    good = line("ranker", span("00000000000000c1"))
    (tmp_path / "ranker-5.jsonl").write_bytes(broken + good)
    files = TraceFiles([tmp_path])

    assert ids(files.spans(TRACE)) == {"c1"}
    (fault,) = files.faults()
    assert "ranker-5.jsonl has a line that is no JSON" in fault


def test_a_file_that_cannot_be_read_costs_only_itself_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "ranker-5.jsonl").mkdir()
    write_answer(tmp_path)
    files = TraceFiles([tmp_path])

    assert len(files.spans(TRACE)) == 6
    assert files.last_answer() is not None
    assert [fault for fault in files.faults() if "cannot read" in fault and "ranker-5" in fault]


def test_other_files_beside_them_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(f"{TRACE} is odd\n")

    assert TraceFiles([tmp_path]).spans(TRACE) == []


def test_without_a_directory_it_says_that_no_mesh_has_run(tmp_path: Path) -> None:
    files = TraceFiles([tmp_path / "traces"])

    assert files.spans(TRACE) == []
    assert re.search(r"no mesh has run here: there is no .*traces.*--jaeger", files.advice)


def test_a_directory_that_is_made_while_waiting_is_read(tmp_path: Path) -> None:
    files = TraceFiles([tmp_path / "traces"])
    before = list(files.spans(TRACE))

    write_answer(tmp_path / "traces")

    assert before == []
    assert len(files.spans(TRACE)) == 6
    assert "no mesh" not in files.advice


def test_a_directory_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    unreadable = tmp_path / ("x" * 300)

    with pytest.raises(TraceStoreError, match=f"cannot read {unreadable}: File name too long"):
        TraceFiles([unreadable]).spans(TRACE)


def test_one_directory_of_several_is_enough(tmp_path: Path) -> None:
    write_answer(tmp_path / "demo")

    assert len(TraceFiles([tmp_path / "traces", tmp_path / "demo"]).spans(TRACE)) == 6


def test_the_last_answer_is_the_one_that_ended_last_in_any_file(tmp_path: Path) -> None:
    later = gateway_spans(OTHER_TRACE, NOW_NS + 10**9)
    (tmp_path / "gateway-9.jsonl").write_bytes(line("gateway", *later))
    os.utime(tmp_path / "gateway-9.jsonl", (1, 1))
    (tmp_path / "gateway-17.jsonl").write_bytes(line("gateway", *gateway_spans(TRACE, NOW_NS)))
    refresh = span("00000000000000d1", name="trending.refresh", began_ns=NOW_NS + 10**10)
    (tmp_path / "candidates-trending-4.jsonl").write_bytes(line("candidates-trending", refresh))

    found = TraceFiles([tmp_path]).last_answer()

    assert found is not None
    assert found.trace_id == OTHER_TRACE


def test_the_last_answer_is_found_before_other_spans_and_a_line_in_the_making(
    tmp_path: Path,
) -> None:
    answers = line("gateway", *gateway_spans(OTHER_TRACE, NOW_NS)) + line(
        "gateway", *gateway_spans(TRACE, NOW_NS + 10**9)
    )
    others = line("gateway", *leaf_spans("2c" * 16)) * 3000  # more than is read at a time
    half = line("gateway", *gateway_spans("3d" * 16, NOW_NS + 10**10))[:-30]
    (tmp_path / "gateway-17.jsonl").write_bytes(answers + others + half)
    files = TraceFiles([tmp_path])

    found = files.last_answer()

    assert len(others) > 2**20
    assert found is not None
    assert found.trace_id == TRACE
    assert files.faults() == ()


def test_there_is_no_last_answer_in_empty_files(tmp_path: Path) -> None:
    (tmp_path / "gateway-17.jsonl").touch()

    assert TraceFiles([tmp_path]).last_answer() is None


def test_it_waits_longer_where_processes_export_less_often() -> None:
    assert wait_s_from("") == wait_s_from("-3") == wait_s_from("x") == WAIT_S
    assert wait_s_from("5000") == WAIT_S + 5
    assert wait_s_from("9" * 5000) == WAIT_S + 60
