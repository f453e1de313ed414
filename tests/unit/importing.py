"""What the import tests share: import a source, read the result back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipeline.importing.import_log import import_log
from pipeline.log_directory import EVENTS_FILE, ITEMS_FILE, LogSummary

DATA = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Imported:
    directory: Path
    summary: LogSummary

    def events(self, columns: str) -> list[tuple[Any, ...]]:
        return self._select(EVENTS_FILE, columns)

    def items(self, columns: str) -> list[tuple[Any, ...]]:
        return self._select(ITEMS_FILE, columns)

    def _select(self, name: str, columns: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            rows = connection.read_parquet(str(self.directory / name))
            return rows.project(columns).fetchall()


def imported(source: Path, log_format: str = "events", *, items: Path | None = None) -> Imported:
    out = source.parent / "out" / log_format
    return Imported(out, import_log(source, out, log_format=log_format, items=items))


def imported_csv(folder: Path, *lines: str, items: Sequence[str] = ()) -> Imported:
    items_file = write_lines(folder / "items.csv", *items) if items else None
    return imported(write_lines(folder / "log.csv", *lines), items=items_file)


def write_lines(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


def write_parquet(path: Path, query: str) -> Path:
    with duckdb.connect() as connection:
        connection.sql(query).write_parquet(str(path))
    return path
