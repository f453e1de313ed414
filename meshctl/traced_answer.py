"""One answer as a person or a program reads it, with its trace where that is asked for."""

import json
from dataclasses import asdict
from enum import Enum

import typer
from rich.console import Console

from meshctl.slate_table import print_slate
from meshctl.traces.show import show_waterfall, trace_object
from meshctl.traces.store import TraceStore, TraceStoreError
from meshctl.traces.trace_name import TraceName, parse_trace_name
from recmesh_client import Recommendation


def print_answer(who: str, recommendation: Recommendation, traces: TraceStore | None) -> None:
    """Print the slate and its coverage, and the trace from `traces`. Raises TraceStoreError."""
    console = Console()
    print_slate(console, f"Recommended to {who}", recommendation)
    if traces is not None:
        console.print()
        show_waterfall(console, traces, _name_of(recommendation))


def print_json(recommendation: Recommendation, traces: TraceStore | None) -> None:
    """Print the answer as JSON, with its trace from `traces` as `trace`.

    Without that trace the answer is printed with null; then raises TraceStoreError.
    """
    shown: dict[str, object] = asdict(recommendation)
    try:
        if traces is not None:
            shown["trace"] = None
            shown["trace"] = trace_object(traces, _name_of(recommendation))
    finally:
        typer.echo(json.dumps(shown, indent=2, default=_json_value))


def _name_of(recommendation: Recommendation) -> TraceName:
    try:
        return parse_trace_name(recommendation.recommendation_id)
    except ValueError as exc:
        raise TraceStoreError(f"the answer has no trace: {exc}") from exc


def _json_value(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"no JSON for {value!r}")
