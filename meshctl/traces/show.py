"""A trace, found and printed: what `trace`, `recommend` and `demo` have in common."""

import json

import typer
from rich.console import Console

from meshctl.traces.find import find_trace, missing_of
from meshctl.traces.json_object import json_object
from meshctl.traces.store import TraceStore
from meshctl.traces.trace_name import TraceName
from meshctl.traces.waterfall import print_waterfall


def show_waterfall(console: Console, store: TraceStore, name: TraceName) -> None:
    """Print a trace as soon as it is complete, or what there is of it. Raises TraceStoreError."""
    trace = find_trace(store, name)
    print_waterfall(console, trace, missing_of(trace, name), store.faults())


def show_json(store: TraceStore, name: TraceName) -> None:
    """Print a trace as one JSON object. Raises TraceStoreError."""
    typer.echo(json.dumps(trace_object(store, name), indent=2, allow_nan=False))


def trace_object(store: TraceStore, name: TraceName) -> dict[str, object]:
    """Return a trace as an object for JSON. Raises TraceStoreError."""
    trace = find_trace(store, name)
    return json_object(trace, missing_of(trace, name))
