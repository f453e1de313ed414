"""The log directory: events.parquet, items.parquet and log.json, written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import duckdb

Order = Literal["time", "position", "none"]
"""What orders a user's events: a timestamp, a place in the sequence, or nothing."""

EVENTS_FILE = "events.parquet"
ITEMS_FILE = "items.parquet"
SUMMARY_FILE = "log.json"

# The columns are the contract between import, synth and train.
CREATE_TABLES = """
CREATE TABLE events (user_id VARCHAR, item_id VARCHAR, timestamp BIGINT, position BIGINT,
                     event VARCHAR, value DOUBLE, market VARCHAR);
CREATE TABLE items (item_id VARCHAR, title VARCHAR, artist VARCHAR, genres VARCHAR[],
                    released BIGINT, markets VARCHAR[]);
"""

_COPY_EVENTS = """
COPY (SELECT user_id, item_id, timestamp, position, event, value, market FROM events
      ORDER BY user_id, position, item_id, event, value, market)
TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""
_COPY_ITEMS = """
COPY (SELECT item_id, title, artist, genres, released, markets FROM items ORDER BY item_id)
TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""
_COUNT = """
SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id), min(timestamp), max(timestamp)
FROM events
"""


class LogDirectoryError(Exception):
    """A folder that is no log directory or cannot become one; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What log.json says of a log."""

    format: str
    """The layout that it was imported from, or "synth"."""
    order: Order
    events: int
    users: int
    """Distinct users of the events."""
    items: int
    """Distinct items of the events."""
    catalogue_items: int
    """Rows of items.parquet."""
    first_timestamp: int | None
    """Unix seconds of the oldest event; None when the log has no times."""
    last_timestamp: int | None
    """Unix seconds of the newest event; None when the log has no times."""
    rejected: Mapping[str, int]
    """Rows left out (or mended, where the reason says so), by reason."""


def connect(spill_directory: Path) -> duckdb.DuckDBPyConnection:
    """Open a database whose overflow goes to `spill_directory`, with empty events and items.

    DuckDB may use its default of 80 % of the memory before it spills. It never loads an
    extension from elsewhere.
    """
    connection = duckdb.connect(
        config={
            "temp_directory": str(spill_directory),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    connection.execute(CREATE_TABLES)
    return connection


@contextmanager
def new_log_directory(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary directory beside `out` that becomes `out` when the block succeeds.

    Nothing is left behind when it fails. `replace` allows an existing log directory to be
    replaced, and nothing else. Raises LogDirectoryError when `out` exists otherwise.
    """
    target = out.resolve()
    _refuse_existing(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(
        tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    )
    partial.chmod(0o755)  # mkdtemp's 0700 would hide the log from other users
    try:
        yield partial
        _sync(partial)
        _move_into_place(partial, target, replace=replace)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_log(
    connection: duckdb.DuckDBPyConnection,
    directory: Path,
    *,
    log_format: str,
    order: Order,
    rejected: Mapping[str, int],
) -> LogSummary:
    """Write the tables `events` and `items` of `connection` to `directory`, with log.json."""
    connection.execute(_COPY_EVENTS.format(path=_quoted(directory / EVENTS_FILE)))
    connection.execute(_COPY_ITEMS.format(path=_quoted(directory / ITEMS_FILE)))
    events, users, items, first, last = connection.execute(_COUNT).fetchall()[0]
    summary = LogSummary(
        format=log_format,
        order=order,
        events=events,
        users=users,
        items=items,
        catalogue_items=connection.execute("SELECT count(*) FROM items").fetchall()[0][0],
        first_timestamp=first,
        last_timestamp=last,
        rejected=dict(sorted(rejected.items())),
    )
    (directory / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return summary


def read_log_summary(path: Path) -> LogSummary:
    """Read log.json of the log directory `path`.

    Raises LogDirectoryError when the folder is missing, is no log directory, or is damaged.
    """
    if not path.is_dir():
        fault = "is a file" if path.exists() else "does not exist"
        raise LogDirectoryError(f"{path} is not a log directory: it {fault}")
    for name in (SUMMARY_FILE, EVENTS_FILE, ITEMS_FILE):
        if not (path / name).is_file():
            raise LogDirectoryError(
                f"{path} is not a log directory: it has no {name} "
                "(`meshctl data import` and `meshctl data synth` write one)"
            )
    return _parse_summary(path / SUMMARY_FILE)


def _parse_summary(file: Path) -> LogSummary:
    try:
        entries = json.loads(file.read_bytes())
    except ValueError as exc:
        raise LogDirectoryError(f"{file} is not JSON: {exc}") from exc
    if not isinstance(entries, dict):
        raise LogDirectoryError(f"{file} does not hold a JSON object")
    for field in fields(LogSummary):
        _check_field(file, field.name, entries)
    return LogSummary(**{field.name: entries[field.name] for field in fields(LogSummary)})


def _check_field(file: Path, name: str, entries: dict[str, Any]) -> None:
    if name not in entries:
        raise LogDirectoryError(f"{file} has no field {name!r}")
    value = entries[name]
    allowed = {
        "format": isinstance(value, str),
        "order": value in get_args(Order),
        "first_timestamp": value is None or _is_count(value),
        "last_timestamp": value is None or _is_count(value),
        "rejected": isinstance(value, dict) and all(map(_is_count, value.values())),
    }
    if not allowed.get(name, _is_count(value)):
        raise LogDirectoryError(f"{file}: field {name!r} cannot be {value!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse_existing(target: Path, *, replace: bool) -> None:
    if not target.exists():
        return
    if not replace:
        raise LogDirectoryError(f"{target} exists already; --force replaces a log directory")
    if not (target / SUMMARY_FILE).is_file():
        raise LogDirectoryError(
            f"{target} exists and is not a log directory (no {SUMMARY_FILE}); "
            "it is not replaced, not even with --force"
        )


def _move_into_place(partial: Path, target: Path, *, replace: bool) -> None:
    _refuse_existing(target, replace=replace)  # somebody else may have been quicker
    if target.exists():
        # The old log moves into the temporary directory's place in one step each way, so that
        # `target` is missing for an instant only and never half-written.
        old = partial.with_suffix(".old")
        target.rename(old)
        partial.rename(target)
        shutil.rmtree(old)
    else:
        partial.rename(target)


def _sync(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
