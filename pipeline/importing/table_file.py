"""A CSV or Parquet file with named columns as a table of text."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.importing.parquet_file import is_parquet, parquet_columns, read_parquet
from pipeline.importing.staging import Staging, UnusableSourceError
from pipeline.importing.text_file import Layout, read_header, read_text


def read_table(
    staging: Staging,
    path: Path,
    *,
    table: str,
    wanted: Sequence[str],
    required: Sequence[str],
    scope: str = "",
) -> frozenset[str]:
    """Create `table` with the columns `wanted`, null where the file has none.

    Returns the wanted columns that the file has. Raises UnusableSourceError when a `required`
    one is missing or the file is damaged.
    """
    if is_parquet(path):
        kinds = parquet_columns(staging, path)
        found = _require(path, kinds, wanted=wanted, required=required)
        read_parquet(staging, path, {name: kinds[name] for name in found}, table=table)
    else:
        names = read_header(path)
        found = _require(path, names, wanted=wanted, required=required)
        layout = Layout(names, ",", has_header=True, allows_quotes=True)
        read_text(staging, path, layout, table=table, keep=found, scope=scope)
    for name in wanted:
        if name not in found:
            staging.connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} VARCHAR")
    return frozenset(found)


def _require(
    path: Path, names: Iterable[str], *, wanted: Sequence[str], required: Sequence[str]
) -> list[str]:
    present = list(names)
    for name in required:
        if name not in present:
            shown = ", ".join(repr(column[:40]) for column in present[:20])
            raise UnusableSourceError(f"{path} has no column {name!r}; its columns are {shown}")
    return [name for name in wanted if name in present]
