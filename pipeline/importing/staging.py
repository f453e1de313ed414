"""What a layout fills while it is read: raw tables, and the lines that could not be read."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

# Every column is text until the checks have read it.
CREATE_RAW_TABLES = """
CREATE TABLE raw_events (user_id VARCHAR, item_id VARCHAR, timestamp VARCHAR, position VARCHAR,
                         event VARCHAR, value VARCHAR, market VARCHAR);
CREATE TABLE raw_items (item_id VARCHAR, title VARCHAR, artist VARCHAR, genres VARCHAR[],
                        released VARCHAR, markets VARCHAR[]);
"""


class UnusableSourceError(Exception):
    """A source that cannot be imported; the message names the file, the fault and the limit."""


@dataclass(frozen=True, slots=True)
class Staging:
    """An open database and a scratch directory that lives as long as the import."""

    connection: duckdb.DuckDBPyConnection
    directory: Path
    rejected: Counter[str] = field(default_factory=Counter)
    """Lines and rows left out so far, by reason; reasons of the catalogue start with "items: "."""


def require_file(path: Path, *, for_what: str) -> Path:
    """Return `path`. Raises UnusableSourceError when it is no readable file or is empty."""
    if not path.exists():
        raise UnusableSourceError(f"{path} does not exist: it should be {for_what}")
    if not path.is_file():
        raise UnusableSourceError(f"{path} is not a file: it should be {for_what}")
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as exc:
        raise UnusableSourceError(f"{path} cannot be read: {exc.strerror}") from exc
    if is_empty:
        raise UnusableSourceError(f"{path} is empty: it should be {for_what}")
    return path


def require_folder(path: Path, *, for_what: str) -> Path:
    """Return `path`. Raises UnusableSourceError when it is no folder."""
    if not path.is_dir():
        fault = "is a file" if path.exists() else "does not exist"
        raise UnusableSourceError(f"{path} {fault}: it should be {for_what}")
    return path


def first_existing(folder: Path, names: tuple[str, ...], *, for_what: str) -> Path:
    """Return the first of `names` in `folder` that is a non-empty file."""
    for name in names:
        if (folder / name).exists():
            return require_file(folder / name, for_what=for_what)
    raise UnusableSourceError(f"{folder} has no {' or '.join(names)}: it should hold {for_what}")
