"""Finding a trace, and waiting for what of it is still on its way."""

import time

from meshctl.traces.store import TraceStore, TraceStoreError
from meshctl.traces.trace_name import TraceName
from meshctl.traces.tree import Trace, tree_of

POLL_S = 0.1
_OLD_S = 10.0
"""A trace that ended longer ago than this, or than twice the store's wait, will get no more."""


class NoSuchTraceError(TraceStoreError):
    """The store has nothing of this trace."""


def find_trace(store: TraceStore, name: TraceName) -> Trace:
    """Return a trace as soon as it is complete, or what there is of it after the store's wait.

    Raises TraceStoreError, also when there is nothing at all.
    """
    gives_up_s = time.monotonic() + store.wait_s
    while True:
        trace = tree_of(store.spans(name.trace_id), name.span_id)
        if trace is not None and not (missing_of(trace, name) and _may_get_more(trace, store)):
            return trace
        if time.monotonic() >= gives_up_s:
            break
        time.sleep(POLL_S)
    if trace is None:
        faults = "".join(f"; {fault}" for fault in store.faults())
        raise NoSuchTraceError(f"no trace {name.trace_id}: {store.advice}{faults}")
    return trace


def last_answer(store: TraceStore) -> TraceName:
    """Return the name of the newest answer. Raises TraceStoreError without one."""
    answer = store.last_answer()
    if answer is None:
        faults = "".join(f"; {fault}" for fault in store.faults())
        raise NoSuchTraceError(f"no answer was recorded yet: {store.advice}{faults}")
    return TraceName(answer.trace_id, answer.span_id)


def missing_of(trace: Trace, name: TraceName) -> tuple[str, ...]:
    """Return what should be in a trace that goes by this name and is not, a line each."""
    is_there = not name.span_id or any(span.span_id == name.span_id for span in trace.spans)
    return (*(() if is_there else (f"the span {name.span_id}, the answer's own",)), *trace.missing)


def _may_get_more(trace: Trace, store: TraceStore) -> bool:
    age_ns = time.time_ns() - max(span.end_ns for span in trace.spans)
    return age_ns < max(_OLD_S, 2 * store.wait_s) * 1e9
