"""A trace as a person reads it in a terminal, whatever was recorded."""

import io
import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from meshctl.traces.json_object import json_object
from meshctl.traces.otlp_json import spans_of
from meshctl.traces.span import Span
from meshctl.traces.time_axis import TimeAxis, axis_of
from meshctl.traces.tree import Trace, tree_of
from meshctl.traces.waterfall import MAX_ROWS, print_waterfall
from tests.otlp_lines import (
    ANSWER,
    CALL,
    CLIENT,
    ERROR,
    GATEWAY,
    LEAF,
    SERVER,
    JsonSpan,
    gateway_spans,
    leaf_spans,
    request,
    span,
)

BEGAN_NS = 1_700_000_000_000_000_000


def trace_of(*written: JsonSpan, service: str = "gateway") -> Trace:
    found = tree_of(spans_of(request(service, *written)))
    assert found is not None
    return found


def answer(*more: JsonSpan) -> Trace:
    leaf = spans_of(request("candidates-ann", *leaf_spans(began_ns=BEGAN_NS)))
    own = spans_of(request("gateway", *gateway_spans(began_ns=BEGAN_NS), *more))
    found = tree_of([*own, *leaf])
    assert found is not None
    return found


def shown(trace: Trace, width: int = 140, encoding: str = "utf-8", **options: bool) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_waterfall(Console(file=file, width=width, **options), trace)  # type: ignore[arg-type]  # flags only
    file.flush()
    return raw.getvalue().decode(encoding)


def row_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name} " in f" {line} ")


def test_every_hop_is_a_row_in_order_with_service_time_and_facts() -> None:
    rows = shown(answer()).splitlines()

    assert [row.split()[:2] for row in rows[1:3]] == [["gateway", "Recommend"], ["fan_out", "19.0"]]
    assert ["> Generate" in row for row in rows[1:7]] == [False, False, True, False, False, False]
    assert rows[4].split()[:3] == ["candidates-ann", "Generate", "8.0"]
    assert "candidates=120" in rows[5]
    assert rows[6].split()[:3] == ["gateway", "rank", "19.0"]


def test_the_bars_stand_where_the_time_went() -> None:
    text = shown(answer())
    columns = {name: row_of(text, name) for name in ("Recommend", "fan_out", "rank")}

    starts = {name: row.index("█") for name, row in columns.items()}
    ends = {name: row.rindex("█") for name, row in columns.items()}
    assert starts["Recommend"] == starts["fan_out"] < starts["rank"]
    assert ends["fan_out"] <= starts["rank"] < ends["rank"] == ends["Recommend"]


def test_the_whole_is_said_in_a_line() -> None:
    text = shown(answer())

    assert "40.0 ms, tier PERSONAL, not degraded, kept: sampled, 6 spans of 2 services" in text
    assert "\nbundle v7\n" in text
    assert "=" not in row_of(text, "Recommend")  # not said twice


def test_a_failed_span_is_red_and_says_why() -> None:
    facts = {
        "error.type": "LATE",
        "rpc.response.status_code": "LATE",
        "recmesh.source.status": "TIMEOUT",
    }
    failed = span(
        "00000000000000c1", GATEWAY, LEAF, kind=CLIENT, attributes=facts, began_ns=BEGAN_NS
    )
    failed["status"] = {"code": ERROR, "message": "no answer within 85 ms"}

    plain = shown(answer(failed), width=200)
    coloured = shown(answer(failed), width=200, force_terminal=True)

    assert "source.status=TIMEOUT" in plain
    assert plain.count("LATE") == 1
    assert "no answer within 85 ms" in plain
    assert "1 failed" in plain
    red = next(line for line in coloured.splitlines() if "no answer within" in line)
    assert "\x1b[31m" in red
    assert "\x1b[31m" not in shown(answer(), force_terminal=True)


def test_a_narrow_terminal_loses_nothing() -> None:
    lines = shown(answer(), width=80).splitlines()

    assert max(len(line) for line in lines) <= 80
    words = "".join("".join(lines).split())
    assert all(fact in words for fact in ("candidates-ann", "retrieve", "candidates=120", "19.0"))


def test_a_terminal_without_unicode_can_show_it() -> None:
    assert "####" in shown(answer(), encoding="ascii")


def test_what_was_recorded_cannot_command_the_terminal() -> None:
    hostile = "\x1b]0;gone\x07\x1b[2J\x1b[31m\r\n\u202egnp\ud800[bold]"
    facts = {hostile: hostile, "recmesh.tier": hostile}
    own = span(GATEWAY, "", hostile, attributes=facts)

    text = shown(trace_of(own, service=hostile))

    odd = {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}}
    assert odd == {"\n"}
    assert "[bold]" in text  # as text, not as markup


def test_huge_values_and_many_of_them_are_cut() -> None:
    facts = {f"key{n}": "x" * 1_000_000 for n in range(100)}
    own = span(GATEWAY, "", "n" * 1_000_000, attributes=facts)
    own["status"] = {"code": ERROR, "message": "m" * 1_000_000}

    text = shown(trace_of(own))

    assert len(text) < 5_000
    assert "(+88)" in text


def test_ten_thousand_spans_are_cut_and_counted() -> None:
    numbers = range(0x1000, 0x1000 + 10_000)
    many = [span(f"{n:016x}", GATEWAY, "step", began_ns=BEGAN_NS + n) for n in numbers]

    text = shown(answer(*many))

    assert f"{10_006 - MAX_ROWS:,} spans left out here; --json has all" in text
    assert len(text.splitlines()) < MAX_ROWS + 20
    assert "10,006 spans of 2 services" in text


def test_deep_chains_are_not_indented_off_the_screen() -> None:
    chain = [span(f"{n + 1:016x}", f"{n:016x}", "step") for n in range(100)]

    text = shown(trace_of(*chain), width=80)

    assert text.count("step") == 100


def test_a_clock_that_was_set_back_is_said_and_drawn() -> None:
    text = shown(answer(span("00000000000000c1", GATEWAY, "odd", ms=(9, 7), began_ns=BEGAN_NS)))

    row = row_of(text, "odd")
    assert "-2.0" in row
    assert "█" in row
    assert "(its clock was set back)" in row


def test_one_span_of_another_clock_does_not_flatten_the_others() -> None:
    lost = span("00000000000000c1", GATEWAY, "lost", began_ns=0)
    early = span("00000000000000c2", GATEWAY, "early", began_ns=BEGAN_NS + 10**15)

    text = shown(answer(lost, early))

    assert "<" in row_of(text, "lost")
    assert row_of(text, "early").rstrip().endswith(">")
    assert row_of(text, "rank").count("█") > 10


def test_pieces_without_the_span_that_holds_them_share_an_axis() -> None:
    pieces = [
        span(f"00000000000000c{n}", "00000000000000ff", name, ms=ms, began_ns=BEGAN_NS)
        for n, (name, ms) in enumerate({"first": (0, 1), "second": (20, 30)}.items(), start=1)
    ]

    text = shown(trace_of(*pieces))

    assert row_of(text, "first").index("█") < row_of(text, "second").index("█")
    assert ">" not in text
    assert "30.0 ms" in text


def test_parts_that_are_not_shown_are_counted() -> None:
    other = span("00000000000000e1", "", ANSWER, kind=SERVER)
    spans = list(spans_of(request("gateway", *gateway_spans(), other, *gateway_spans())))
    trace = tree_of(spans, GATEWAY)
    assert trace is not None

    text = shown(trace)

    assert f"1 span not below this answer; `meshctl trace {trace.trace_id}` shows all" in text
    assert "4 spans came twice" in text


def test_what_goes_without_saying_is_not_said_and_lists_are_readable() -> None:
    usual = {"recmesh.attempt": 1, "recmesh.quality": 1.0, "recmesh.kept": "sampled"}
    plain = span("00000000000000c1", GATEWAY, "plain", attributes=usual, began_ns=BEGAN_NS)
    unusual = {"recmesh.attempt": 2, "recmesh.quality": 0.5, "recmesh.kept": "slow"}
    odd = span("00000000000000c2", GATEWAY, "odd", attributes=unusual, began_ns=BEGAN_NS)
    sources = {"arrayValue": {"values": [{"stringValue": "ann=OK"}, {"stringValue": "b=SHED"}]}}
    fan = span("00000000000000c3", GATEWAY, "fan", began_ns=BEGAN_NS)
    fan["attributes"] = [{"key": "recmesh.sources", "value": sources}]

    text = shown(answer(plain, odd, fan))

    assert "=" not in row_of(text, "plain")
    assert "attempt=2 quality=0.5 kept=slow" in row_of(text, "odd")
    assert "sources=ann=OK,b=SHED" in row_of(text, "fan")


def test_what_is_missing_is_said() -> None:
    file = io.StringIO()

    print_waterfall(Console(file=file, width=100), answer(), ["the span of ann"], ["cannot read x"])

    assert "missing: the span of ann\ncannot read x\n" in file.getvalue()


def test_a_linked_trace_is_named_once() -> None:
    linked = span("00000000000000c1", GATEWAY) | {"links": [{"traceId": "ab" * 16}] * 2}

    assert shown(answer(linked)).count(f"linked trace {'ab' * 16}") == 1


def test_json_has_every_span_with_offsets_from_the_answers_start() -> None:
    trace = answer(span("00000000000000c1", GATEWAY, "odd", ms=(-3, 7), began_ns=BEGAN_NS))

    found = json.loads(json.dumps(json_object(trace, ["x"]), allow_nan=False))

    by_id = {each["span_id"]: each for each in found["spans"]}
    assert (found["trace_id"], found["duration_ms"]) == (trace.trace_id, 40.0)
    assert (found["tier"], found["degraded"], found["kept"]) == ("PERSONAL", False, "sampled")
    assert found["bundle_version"] == "v7"
    assert (found["complete"], found["missing"]) == (False, ["x"])
    assert len(by_id) == 7
    assert by_id["00000000000000c1"]["start_offset_ms"] == -3.0
    assert by_id[CALL] == {
        "service": "gateway",
        "instance": "7",
        "name": LEAF,
        "kind": "client",
        "span_id": CALL,
        "parent_id": "00000000000000a2",
        "start_offset_ms": 2.0,
        "duration_ms": 10.0,
        "status": "unset",
        "status_message": "",
        "attributes": {
            "rpc.system.name": "grpc",
            "recmesh.leaf": "ann",
            "recmesh.source.status": "OK",
        },
        "events": [],
        "links": [],
    }


def test_json_is_json_whatever_was_recorded() -> None:
    trace = answer(span("00000000000000c1", GATEWAY, "\ud800\x1b", attributes={"x": float("nan")}))

    text = json.dumps(json_object(trace, []), allow_nan=False)

    assert text.isascii()
    assert "nan" in text


def timed(start_ns: int, end_ns: int) -> Span:
    written = span("00000000000000c1", began_ns=0)
    written |= {"startTimeUnixNano": start_ns, "endTimeUnixNano": end_ns}
    (found,) = spans_of(request("x", written))
    return found


TIMES = st.integers(-(2**63), 2**64 - 1)


@given(TIMES, TIMES, st.lists(st.tuples(TIMES, TIMES), max_size=4), st.integers(1, 50))
def test_every_bar_is_seen_and_fits(
    start_ns: int, end_ns: int, others: list[tuple[int, int]], width: int
) -> None:
    head = timed(start_ns, end_ns)
    spans = [head, *(timed(*other) for other in others)]

    axis = axis_of(head, spans)

    for each in spans:
        bar = axis.bar(each, width)
        assert len(bar) == width
        assert bar.strip()
    assert set(axis.bar(head, width)) <= {"█", " "}


def test_a_bar_covers_its_share_of_the_axis() -> None:
    axis = TimeAxis(0, 100)

    assert axis.bar(timed(25, 50), 8) == "  ██    "
    assert axis.bar(timed(0, 100), 8) == "████████"
    assert axis.bar(timed(50, 25), 8) == "  ██    "
    assert axis.bar(timed(100, 100), 8) == "       █"
    assert axis.bar(timed(-9, -1), 8) == "<       "
    assert axis.bar(timed(101, 102), 8) == "       >"
