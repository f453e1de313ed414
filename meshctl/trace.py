"""`meshctl trace`: where the time of one answer went, and what it was worth."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meshctl.traces.find import last_answer
from meshctl.traces.places import store_from
from meshctl.traces.show import show_json, show_waterfall
from meshctl.traces.store import TraceStore, TraceStoreError
from meshctl.traces.trace_name import TraceName, parse_trace_name

IdArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help="A recommendation id, or a trace id for all that the trace holds."
    ),
]
LastOption = Annotated[bool, typer.Option("--last", help="The newest answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JaegerOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Read from Jaeger, such as http://127.0.0.1:16686; RECMESH_JAEGER does the same.",
    ),
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        help="Read the OTLP/JSON files of a directory; by default those of `meshctl up` and"
        " `meshctl demo` here, or RECMESH_TRACE_DIR."
    ),
]


def trace(
    id_: IdArgument = None,
    *,
    last: LastOption = False,
    as_json: JsonOption = False,
    jaeger: JaegerOption = "",
    directory: DirectoryOption = None,
) -> None:
    """Show every hop of an answer in order, with the time that each took.

    Spans come a moment after the answer: it waits for those that are missing, and
    says what is missing still. Exits 1 when there is nothing of the trace.
    """
    store = _store(jaeger, directory)
    asked_for = _asked_for(id_, is_last=last)
    try:
        name = asked_for or last_answer(store)
        if as_json:
            show_json(store, name)
        else:
            show_waterfall(Console(), store, name)
    except TraceStoreError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from exc


def _store(jaeger: str, directory: Path | None) -> TraceStore:
    if jaeger and directory is not None:
        raise typer.BadParameter("--jaeger and --directory are two places; name one")
    try:
        return store_from(os.environ, jaeger=jaeger, directory=directory)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _asked_for(id_: str | None, *, is_last: bool) -> TraceName | None:
    """Return what was named, None for the last answer."""
    if (id_ is not None) == is_last:
        raise typer.BadParameter("name one of ID and --last")
    if id_ is None:
        return None
    try:
        return parse_trace_name(id_)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
