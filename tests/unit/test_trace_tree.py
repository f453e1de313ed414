"""The order of a trace's spans, and what is missing among them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from meshctl.traces.otlp_json import spans_of
from meshctl.traces.span import Span
from meshctl.traces.tree import Trace, tree_of
from tests.otlp_lines import (
    CALL,
    CLIENT,
    ERROR,
    GATEWAY,
    GRPC,
    LEAF,
    JsonSpan,
    gateway_spans,
    leaf_spans,
    request,
    span,
)


def spans(*written: JsonSpan, service: str = "gateway") -> list[Span]:
    return list(spans_of(request(service, *written)))


def answer() -> list[Span]:
    return spans(*leaf_spans(), service="candidates-ann") + spans(*gateway_spans())


def tree(given_spans: Sequence[Span], below: str = "") -> Trace:
    found = tree_of(given_spans, below)
    assert found is not None
    return found


def outline(trace: Trace) -> list[str]:
    return ["  " * row.depth + row.span.span_id[-2:] for row in trace.rows]


def numbered(number: int) -> str:
    return f"{number + 1:016x}"


def test_every_span_stands_below_its_parent_by_start() -> None:
    trace = tree(answer())

    assert outline(trace) == ["a1", "  a2", "    a3", "      b1", "        b2", "  a4"]
    assert trace.head.span_id == GATEWAY
    assert trace.services == ("gateway", "candidates-ann")


def test_a_whole_answer_misses_nothing_though_its_caller_is_elsewhere() -> None:
    assert tree(answer()).missing == ()


def test_without_spans_there_is_no_trace() -> None:
    assert tree_of([]) is None


def test_a_call_that_was_answered_misses_the_span_of_who_answered() -> None:
    assert tree(spans(*gateway_spans())).missing == ("the span of ann, which answered",)


def test_a_call_that_failed_misses_nothing() -> None:
    failed = span(CALL, GATEWAY, LEAF, kind=CLIENT, status=ERROR, attributes=GRPC)
    store_read = span("00000000000000c3", GATEWAY, "Query", kind=CLIENT)

    trace = tree(spans(*gateway_spans()[:1], failed, store_read))

    assert trace.missing == ()


def test_spans_whose_parent_is_not_there_miss_it() -> None:
    trace = tree(spans(*leaf_spans(), service="candidates-ann"))

    assert outline(trace) == ["b1", "  b2"]
    assert trace.missing == ("the parent of a span of candidates-ann",)


def test_of_several_answers_in_a_trace_one_can_be_shown_alone() -> None:
    other = spans(
        span("00000000000000e1", "", "batch"), span("00000000000000e2", GATEWAY[:-1] + "9")
    )

    trace = tree([*other, *answer()], below=GATEWAY)

    assert outline(trace)[0] == "a1"
    assert len(trace.spans) == 6
    assert trace.left_out == 2
    assert trace.missing == ()


def test_a_part_below_any_span_does_not_miss_what_is_above_it() -> None:
    trace = tree(answer(), below="00000000000000b1")

    assert outline(trace) == ["b1", "  b2"]
    assert trace.missing == ()


def test_all_is_shown_when_the_span_asked_for_is_not_there() -> None:
    assert len(tree(answer(), below="00000000000000f9").spans) == 6


def test_spans_that_come_twice_are_shown_once() -> None:
    trace = tree([*answer(), *answer()])

    assert outline(trace) == outline(tree(answer()))
    assert trace.doubled == 6


def test_parents_in_a_circle_are_cut_at_the_earliest() -> None:
    one, two, own = (numbered(n) for n in range(3))

    trace = tree(
        spans(
            span(one, two, ms=(1, 2), began_ns=9),
            span(two, one, ms=(0, 2), began_ns=9),
            span(own, own, ms=(5, 6), began_ns=9),
        )
    )

    assert outline(trace) == ["02", "  01", "03"]
    assert trace.circular == 3


def test_a_chain_of_ten_thousand_is_no_problem() -> None:
    chain = [span(numbered(n), numbered(n - 1) if n else "", began_ns=n) for n in range(10_000)]

    trace = tree(spans(*reversed(chain)))

    assert [row.depth for row in trace.rows] == list(range(10_000))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 14), st.integers(0, 3)), min_size=1))
def test_every_span_is_there_exactly_once_whatever_its_parent_is(
    drawn: list[tuple[int, int, int]],
) -> None:
    written = [span(numbered(n), numbered(parent), began_ns=start) for n, parent, start in drawn]

    trace = tree(spans(*written))

    assert sorted(s.span_id for s in trace.spans) == sorted({numbered(n) for n, _, _ in drawn})
    assert trace.doubled == len(drawn) - len(trace.spans)
