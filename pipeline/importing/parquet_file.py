"""Parquet files as tables of text."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.importing.staging import Staging, UnusableSourceError
from pipeline.importing.text_file import reading

_MAGIC = b"PAR1"
# A path may look like a partition of a data set; its folders are not columns.
_SOURCE = "read_parquet($path, hive_partitioning=false, binary_as_string=true)"


def is_parquet(path: Path) -> bool:
    """Say whether the file is Parquet, by its name or its first bytes."""
    with path.open("rb") as file:
        return path.suffix == ".parquet" or file.read(4) == _MAGIC


def parquet_columns(staging: Staging, path: Path) -> dict[str, str]:
    """Return the type of every column. Raises UnusableSourceError when the file is damaged."""
    with reading(path):
        rows = staging.connection.execute(
            f"DESCRIBE SELECT * FROM {_SOURCE}",  # noqa: S608 - our own constant
            {"path": str(path)},
        ).fetchall()
    return {name: kind for name, kind, *_ in rows}


def read_parquet(staging: Staging, path: Path, columns: Mapping[str, str], *, table: str) -> None:
    """Create `table` with `columns` (name: type in the file) as text, empty text as null.

    Lists become text joined by '|'. Raises UnusableSourceError for other nested columns.
    """
    for name, kind in columns.items():
        if kind.startswith(("STRUCT", "MAP", "UNION")) or kind.count("[") > 1:
            raise UnusableSourceError(f"{path}: column {name!r} has type {kind}, not plain values")
    fields = ", ".join(
        f"nullif({_as_text(name, kind)}, '') AS {name}" for name, kind in columns.items()
    )
    with reading(path):
        staging.connection.execute(
            f"CREATE TABLE {table} AS SELECT {fields} FROM {_SOURCE}",  # noqa: S608 - table and columns are our own names
            {"path": str(path)},
        )


def _as_text(name: str, kind: str) -> str:
    return f"array_to_string({name}, '|')" if kind.endswith("]") else f"{name}::VARCHAR"
