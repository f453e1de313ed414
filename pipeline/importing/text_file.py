"""Text files as tables: every line is either split into the expected columns or counted.

DuckDB's own CSV dialects are not used for the columns. On damaged files (measured with DuckDB
2.0.0) the strict one gives up on the whole file at a stray quote or a mixed line end, and the
lenient one swallows everything up to the next quote without a word. So each line is read as one
column, and split in SQL.
"""

import codecs
import csv
import gzip
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import duckdb

from pipeline.importing.staging import Staging, UnusableSourceError

HEADER_LIMIT_BYTES = 65_536
LINE_LIMIT_BYTES = 2_000_000
_GZIP_MAGIC = b"\x1f\x8b"
_LATIN_1_FALLBACK = "recmesh-latin-1"

# A separator that no file holds makes the whole line one column. Where line ends are mixed,
# DuckDB sees an empty line after each "\r\n".
_LINES = """
CREATE OR REPLACE TEMP TABLE lines AS
SELECT line
FROM read_csv($path, auto_detect=false, header=$header, delim='\x1f\x1e\x1f\x1e', quote='',
              escape='', strict_mode=false, columns={'line': 'VARCHAR'}, compression=$compression,
              max_line_size=$line_limit_bytes, store_rejects=true, rejects_limit=0,
              hive_partitioning=false)
WHERE line <> ''
"""
_UNREAD = "SELECT error_type, count(DISTINCT (scan_id, line)) FROM reject_errors GROUP BY ALL"
_UNREAD_REASONS = {
    "INVALID ENCODING": "not UTF-8 text",
    "LINE SIZE OVER MAXIMUM": f"line longer than {LINE_LIMIT_BYTES:,} bytes",
}

_SPLIT = "SELECT string_split(line, '{separator}') AS fields, false AS is_broken FROM lines"
# With a comma in front, every match takes at least that comma, so no field is skipped; a line
# that the matches do not cover entirely has a stray or an unclosed quote.
_SPLIT_QUOTED = """
SELECT CASE WHEN contains(line, '"') THEN list_transform(matches, lambda field:
           CASE WHEN starts_with(field, ',"') THEN replace(field[3:-2], '""', '"')
                ELSE field[2:] END)
       ELSE string_split(line, ',') END AS fields,
       contains(line, '"') AND array_to_string(matches, '') <> ',' || line AS is_broken
FROM (SELECT line, CASE WHEN contains(line, '"')
      THEN regexp_extract_all(',' || line, ',(?:"(?:[^"]|"")*"|[^,"]*)') END AS matches FROM lines)
"""
_CHECK = """
CREATE OR REPLACE TEMP TABLE split AS
SELECT fields, CASE WHEN is_broken THEN 'broken quoting'
                    WHEN len(fields) <> {width} THEN 'wrong number of columns' END AS fault
FROM ({split})
"""
_MISFITS = "SELECT fault, count(*) FROM split WHERE fault IS NOT NULL GROUP BY fault"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a text file become columns."""

    columns: Sequence[str]
    """Every column of the file, in order."""
    separator: str
    has_header: bool
    allows_quotes: bool = False
    """RFC 4180 quotes, which end on the line that they start on; the separator is a comma."""


def read_text(
    staging: Staging,
    path: Path,
    layout: Layout,
    *,
    table: str,
    keep: Sequence[str],
    scope: str = "",
) -> None:
    """Create `table` with the columns `keep`, empty fields as null; count lines that do not fit.

    `scope` is put before the reasons. Raises UnusableSourceError when the file is damaged.
    """
    with reading(path):
        _read_lines(staging, path, has_header=layout.has_header)
        _count(staging, _UNREAD, scope=scope)
    split = _SPLIT_QUOTED if layout.allows_quotes else _SPLIT.format(separator=layout.separator)
    staging.connection.execute(_CHECK.format(split=split, width=len(layout.columns)))
    _count(staging, _MISFITS, scope=scope)
    fields = (f"nullif(fields[{layout.columns.index(name) + 1}], '') AS {name}" for name in keep)
    staging.connection.execute(
        f"CREATE TABLE {table} AS SELECT {', '.join(fields)} FROM split WHERE fault IS NULL"  # noqa: S608 - table and columns are our own names
    )
    for scratch in ("lines", "split", "reject_errors", "reject_scans"):
        staging.connection.execute(f"DROP TABLE {scratch}")


def read_first_line(path: Path) -> str:
    """Return the first line without its end. Raises UnusableSourceError when it is no text."""
    try:
        with _open_bytes(path) as file:
            line = file.readline(HEADER_LIMIT_BYTES)
    except (OSError, EOFError) as exc:
        raise UnusableSourceError(f"{path} is a damaged gzip file: {exc}") from exc
    if len(line) == HEADER_LIMIT_BYTES:
        raise UnusableSourceError(
            f"{path}: the first line is longer than {HEADER_LIMIT_BYTES:,} bytes"
        )
    if b"\0" in line:
        raise UnusableSourceError(f"{path} is not a text file: its first line holds a NUL byte")
    return line.decode("utf-8-sig", errors="replace").rstrip("\r\n")


def read_header(path: Path) -> list[str]:
    """Return the column names of a CSV file. Raises UnusableSourceError when one is doubled."""
    names = next(csv.reader([read_first_line(path)]), [])
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UnusableSourceError(f"{path}: column {doubled[0]!r} appears more than once")
    return names


def starts_with_header(path: Path, separator: str) -> bool:
    """Say whether the first field is not a number: the public sets number their rows."""
    return not read_first_line(path).split(separator)[0].isdigit()


def to_utf8(staging: Staging, path: Path) -> Path:
    """Copy `path` as UTF-8, each byte that is not UTF-8 read as Latin-1, and return the copy.

    The public sets mix both: HetRec's artists are UTF-8 while eight of its tags are Latin-1, and
    GroupLens' titles are Latin-1.
    """
    copy = staging.directory / f"{path.name}.utf8"
    with reading(path), _open_bytes(path) as raw, copy.open("wb") as written:
        text = codecs.getreader("utf-8")(raw, _LATIN_1_FALLBACK)
        shutil.copyfileobj(text, codecs.getwriter("utf-8")(written))
    return copy


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name `path` in what DuckDB or the operating system has to say against it."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, OSError, EOFError) as exc:
        first_line = str(exc).partition("\n")[0]
        raise UnusableSourceError(f"{path} cannot be read: {first_line}") from exc


def _read_lines(staging: Staging, path: Path, *, has_header: bool) -> None:
    staging.connection.execute(
        _LINES,
        {
            "path": str(path),
            "header": has_header,
            "compression": "gzip" if _is_gzip(path) else "none",
            "line_limit_bytes": LINE_LIMIT_BYTES,
        },
    )


def _count(staging: Staging, query: str, *, scope: str) -> None:
    for fault, lines in staging.connection.execute(query).fetchall():
        staging.rejected[scope + _UNREAD_REASONS.get(fault, fault.lower())] += lines


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _open_bytes(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if _is_gzip(path) else path.open("rb")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN_1_FALLBACK, _as_latin_1)
