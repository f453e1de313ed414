"""A trace as a waterfall in the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshctl.traces.plain import plain
from meshctl.traces.span import Span, Value
from meshctl.traces.summary import BUNDLE, DEGRADED, KEPT, TIER, Summary, summary_of
from meshctl.traces.time_axis import TimeAxis, axis_of
from meshctl.traces.tree import RPC_SYSTEM, Row, Trace

MAX_ROWS = 300
"""More are nothing to read; --json has them all."""

_MAX_DEPTH = 8  # deeper ones are not indented further
_NAME_LENGTH = 40
_VALUE_LENGTH = 60
_MESSAGE_LENGTH = 120
_NOTE_LENGTH = 500
_MAX_ATTRIBUTES = 12
_WIDE = 110
_WIDE_BAR, _NARROW_BAR = 32, 14
_PREFIX = "recmesh."
# What the other columns and the lines below say already, and what only machines want.
_UNSHOWN = {RPC_SYSTEM, "rpc.method"}
_UNSHOWN_OF_ANSWER = {TIER, DEGRADED, KEPT, BUNDLE}
_CODE = "rpc.response.status_code"
# What goes without saying.
_USUAL = {
    (_CODE, "OK"),
    (KEPT, "sampled"),
    ("recmesh.attempt", 1),
    ("recmesh.quality", 1.0),
}


@dataclass(frozen=True, slots=True)
class _Bars:
    """How bars are drawn."""

    axis: TimeAxis
    width: int
    block: str

    def of(self, span: Span) -> str:
        return self.axis.bar(span, self.width, self.block)


def print_waterfall(
    console: Console, trace: Trace, missing: Sequence[str] = (), faults: Sequence[str] = ()
) -> None:
    """Print the spans on a common time axis, and below them the whole in a line.

    `missing` and `faults` are lines for what should be there and what could not be read.
    """
    bars = _Bars(
        axis_of(trace.head, trace.spans, is_whole=trace.has_whole),
        _WIDE_BAR if console.width >= _WIDE else _NARROW_BAR,
        "#" if console.options.ascii_only else "█",
    )
    console.print(_table(trace.rows[:MAX_ROWS], bars))
    for line in (*_notes(trace), *_summary(trace)):
        console.print(line, soft_wrap=True)
    for text in (*(f"missing: {each}" for each in missing), *faults):
        console.print(Text(plain(text, _NOTE_LENGTH), style="yellow"), soft_wrap=True)


def _table(rows: Sequence[Row], bars: _Bars) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("service", no_wrap=True)
    table.add_column("span", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=bars.width)
    table.add_column("", overflow="fold", ratio=1)
    services = ["", *(row.span.service for row in rows)]
    for before, row in zip(services, rows, strict=False):
        table.add_row(*_cells(row, bars, "" if row.span.service == before else row.span.service))
    return table


def _cells(row: Row, bars: _Bars, service: str) -> tuple[Text, ...]:
    span = row.span
    failed = "red" if span.status == "error" else ""
    indent = "  " * min(row.depth, _MAX_DEPTH)
    return (
        Text(plain(service, _NAME_LENGTH), style="bold"),
        Text(indent + _label(span), style=failed),
        Text(f"{span.duration_ms:.1f}", style="yellow" if span.duration_ms < 0 else failed),
        Text(bars.of(span), style=failed or _style_of(span)),
        Text(" ".join(_details(span)), style=failed or "dim"),
    )


def _style_of(span: Span) -> str:
    # A call is time in which the caller waits: the work is in the spans below it.
    return "cyan" if span.kind == "client" else "green"


def _label(span: Span) -> str:
    name = span.name
    if span.kind in {"server", "client"}:
        name = name.rpartition("/")[2] or name
    return plain(f"> {name}" if span.kind == "client" else name, _NAME_LENGTH)


def _details(span: Span) -> Iterator[str]:
    shown = [pair for pair in span.attributes.items() if _is_shown(span, *pair)]
    for key, value in shown[:_MAX_ATTRIBUTES]:
        name = plain(key.removeprefix(_PREFIX), _VALUE_LENGTH)
        yield f"{name}={plain(_said(value), _VALUE_LENGTH)}"
    if len(shown) > _MAX_ATTRIBUTES:
        yield f"(+{len(shown) - _MAX_ATTRIBUTES})"
    if span.duration_ms < 0:
        yield "(its clock was set back)"
    if span.status_message:
        yield plain(span.status_message, _MESSAGE_LENGTH)


def _is_shown(span: Span, key: str, value: Value) -> bool:
    if key in _UNSHOWN or (key, value) in _USUAL:
        return False
    if span.is_answer and key in _UNSHOWN_OF_ANSWER:
        return False
    return not (key == _CODE and value == span.attributes.get("error.type"))


def _said(value: Value) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ",".join(map(_said, value))
        case float():
            return f"{value:.4g}"
        case _:
            return "" if value is None else str(value)


def _notes(trace: Trace) -> Iterator[Text]:
    for count, what in (
        (len(trace.rows) - MAX_ROWS, "left out here; --json has all"),
        (trace.left_out, f"not below this answer; `meshctl trace {trace.trace_id}` shows all"),
        (trace.doubled, "came twice, shown once"),
        (trace.circular, "with parents that go in a circle"),
    ):
        if count > 0:
            yield Text(f"{_counted(count, 'span')} {what}", style="yellow")


def _summary(trace: Trace) -> Iterator[Text]:
    summary = summary_of(trace)
    yield Text(", ".join(_facts(summary)), style="bold")
    if summary.bundle:
        yield Text(f"bundle {plain(summary.bundle, _NAME_LENGTH)}")
    yield Text(f"trace {trace.trace_id}")
    for linked in dict.fromkeys(_links(trace.spans)):
        yield Text(f"linked trace {linked}")


def _links(spans: Iterable[Span]) -> Iterator[str]:
    for span in spans:
        yield from (link for link in span.links if link != span.trace_id)


def _facts(summary: Summary) -> Iterator[str]:
    yield f"{summary.total_ms:.1f} ms"
    if summary.tier:
        yield f"tier {plain(summary.tier, _VALUE_LENGTH)}"
    if summary.is_degraded is not None:
        yield "degraded" if summary.is_degraded else "not degraded"
    if summary.kept:
        yield f"kept: {plain(summary.kept, _VALUE_LENGTH)}"
    if summary.failed:
        yield f"{summary.failed} failed"
    yield f"{_counted(summary.spans, 'span')} of {_counted(len(summary.services), 'service')}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
