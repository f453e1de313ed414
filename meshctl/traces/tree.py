"""The spans of a trace in the order of who called whom, and what is missing among them.

How this works: a span stands below its parent, beside its siblings by start. A span whose parent
is not here stands at the top, and so does the earliest of spans whose parents go in a circle.
Nothing here recurses: what was recorded may be a chain of thousands.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from meshctl.traces.span import Span

RPC_SYSTEM = "rpc.system.name"


@dataclass(frozen=True, slots=True)
class Row:
    """A span and how far below the top it is, from 0."""

    span: Span
    depth: int


@dataclass(frozen=True)
class Trace:
    """Spans of one trace, in order; not empty.

    `doubled` spans came twice and `circular` ones had parents that go in a
    circle. `below` is the span id asked for, if any; `left_out` spans of the trace
    are not below it.
    """

    rows: Sequence[Row]
    below: str = ""
    doubled: int = 0
    circular: int = 0
    left_out: int = 0

    @property
    def trace_id(self) -> str:
        """Its id."""
        return self.rows[0].span.trace_id

    @cached_property
    def spans(self) -> Sequence[Span]:
        """The spans, in order."""
        return tuple(row.span for row in self.rows)

    @cached_property
    def head(self) -> Span:
        """The span that the whole is about: the first answer, else the first span."""
        return next((span for span in self.spans if span.is_answer), self.spans[0])

    @property
    def has_whole(self) -> bool:
        """Whether `head` holds all that happened; without it the trace is in pieces."""
        head = self.head
        return head.is_answer or not head.parent_id or head.span_id == self.below

    @property
    def services(self) -> Sequence[str]:
        """The services that have a part in it, as first met."""
        return tuple(dict.fromkeys(span.service for span in self.spans))

    @cached_property
    def missing(self) -> Sequence[str]:
        """What should be here and is not, a line each; empty when the trace is complete."""
        ids = {span.span_id for span in self.spans}
        parents = {span.parent_id for span in self.spans}
        orphans = Counter(
            span.service
            for span in self.spans
            if span.parent_id and span.parent_id not in ids
            # The caller of an answer keeps its own spans, if it has any.
            if not span.is_answer and span.span_id != self.below
        )
        unanswered = Counter(
            str(span.attributes.get("recmesh.leaf") or span.name)
            for span in self.spans
            if _is_answered_call(span) and span.span_id not in parents
        )
        return (
            *(
                f"the parents of {n} spans of {service}"
                if n > 1
                else f"the parent of a span of {service}"
                for service, n in orphans.items()
            ),
            *(f"the span of {leaf}, which answered" for leaf in unanswered),
        )


def _is_answered_call(span: Span) -> bool:
    # Only of gRPC calls do we know that the other side records them too.
    return span.kind == "client" and span.status != "error" and RPC_SYSTEM in span.attributes


def tree_of(spans: Iterable[Span], below: str = "") -> Trace | None:
    """Return spans of one trace in order, None without any.

    With `below`, a span id, only that span and those below it: all when it is not here.
    """
    by_id: dict[str, Span] = {}
    total = 0
    for span in spans:
        total += 1
        by_id.setdefault(span.span_id, span)
    if not by_id:
        return None
    children = _children(by_id)
    doubled = total - len(by_id)
    if below in by_id:
        rows = _rows_below(by_id[below], children)
        return Trace(rows, below, doubled, left_out=len(by_id) - len(rows))
    rows, circular = _all_rows(by_id, children)
    return Trace(rows, "", doubled, circular)


def _children(by_id: dict[str, Span]) -> dict[str, list[Span]]:
    children: dict[str, list[Span]] = {}
    for span in sorted(by_id.values(), key=_by_time):
        parent_id = span.parent_id if span.parent_id in by_id else ""
        children.setdefault(parent_id, []).append(span)
    return children


def _by_time(span: Span) -> tuple[int, int, str]:
    return span.start_ns, -span.end_ns, span.span_id


def _all_rows(by_id: dict[str, Span], children: dict[str, list[Span]]) -> tuple[list[Row], int]:
    rows: list[Row] = []
    for top in children.get("", ()):
        rows += _rows_below(top, children)
    seen = {row.span.span_id for row in rows}
    circular = len(by_id) - len(rows)
    for span in sorted(by_id.values(), key=_by_time):
        if span.span_id not in seen:
            rows += _rows_below(span, children, seen)
    return rows, circular


def _rows_below(
    top: Span, children: dict[str, list[Span]], seen: set[str] | None = None
) -> list[Row]:
    seen = set() if seen is None else seen
    rows: list[Row] = []
    waiting = [Row(top, 0)]
    while waiting:
        row = waiting.pop()
        if row.span.span_id in seen:
            continue  # round a circle
        seen.add(row.span.span_id)
        rows.append(row)
        below = children.get(row.span.span_id, ())
        waiting += [Row(child, row.depth + 1) for child in reversed(below)]
    return rows
