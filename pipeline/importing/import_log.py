"""Import a source into a log directory: stage, check, write."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb

from pipeline.importing.check_events import check_events
from pipeline.importing.check_items import ITEMS_SCOPE, check_items
from pipeline.importing.items_table import stage_items_table
from pipeline.importing.registry import FORMATS
from pipeline.importing.sql_macros import MACROS
from pipeline.importing.staging import CREATE_RAW_TABLES, Staging, UnusableSourceError
from pipeline.log_directory import LogSummary, connect, new_log_directory, write_log

STEPS = 4


def import_log(
    source: Path,
    out: Path,
    *,
    log_format: str,
    items: Path | None = None,
    replace: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> LogSummary:
    """Import `source`, laid out as `log_format` (a key of FORMATS), into the log directory `out`.

    `items` is an items table to use for the catalogue instead of the layout's own; `replace`
    allows `out` to be a log directory already. `on_step` is told each of the STEPS as it begins.
    Raises UnusableSourceError or LogDirectoryError; nothing is left behind then.
    """
    stage = FORMATS[log_format]
    with (
        new_log_directory(out, replace=replace) as partial,
        tempfile.TemporaryDirectory(dir=partial) as scratch,
        connect(Path(scratch)) as connection,
    ):
        staging = _prepare(connection, Path(scratch))
        on_step("Reading")
        order = stage(staging, source)
        if items is not None:
            stage_items_table(staging, items)
        on_step("Checking events")
        check_events(staging, order=order)
        _require_events(staging, source)
        on_step("Checking items")
        check_items(staging)
        on_step("Writing")
        return write_log(
            connection, partial, log_format=log_format, order=order, rejected=staging.rejected
        )


def _prepare(connection: duckdb.DuckDBPyConnection, scratch: Path) -> Staging:
    connection.execute(CREATE_RAW_TABLES)
    connection.execute(MACROS)
    return Staging(connection, scratch)


def _require_events(staging: Staging, source: Path) -> None:
    if staging.connection.execute("SELECT 1 FROM events LIMIT 1").fetchall():
        return
    rejected = {
        reason: rows
        for reason, rows in staging.rejected.items()
        if not reason.startswith(ITEMS_SCOPE)
    }
    if not rejected:
        raise UnusableSourceError(f"{source} holds no events: it has a header and no rows")
    counts = "; ".join(f"{reason}: {rows:,}" for reason, rows in sorted(rejected.items()))
    raise UnusableSourceError(
        f"{source}: none of its {sum(rejected.values()):,} rows can be used ({counts}). "
        "docs/events-format.md says what a row must hold"
    )
