"""`meshctl history`: users' histories in DynamoDB."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from meshctl.dynamodb import Endpoint, Prefix
from meshctl.prepare import load_bundle_histories
from meshkit.bundles import BundleError, open_store, readable
from meshkit.dynamodb import (
    BULK_CONNECT_TIMEOUT_S,
    BULK_READ_TIMEOUT_S,
    DEFAULT_TABLE_PREFIX,
    DynamodbError,
)
from pipeline.event_log import LogError, read_event_log
from pipeline.histories import histories_of
from pipeline.history_load import LOAD_THREADS, HistoryLoad, load_histories
from pipeline.log_directory import LogDirectoryError
from services.gateway.adapters.dynamodb_history_reader import DynamodbHistoryReader
from services.gateway.adapters.dynamodb_history_writer import DynamodbHistoryWriter
from services.gateway.adapters.history_table import HistoryTable
from services.gateway.adapters.packed_history import PackedHistoryError, pack
from services.gateway.domain.stored_history import StoredHistory
from signals.bloom import held_back_share
from signals.bundle import ItemKeys, ItemTexts
from signals.keys import item_key

app = typer.Typer(no_args_is_help=True, help="Users' histories in DynamoDB.")

DEFAULT_SHOWN = 10

NamedBundles = Annotated[
    Path | None, typer.Option("--bundles", help="A store of bundles: its current one is taken.")
]


@app.callback()
def _group() -> None:
    """Users' histories in DynamoDB."""


@app.command()
def load(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A log directory.")
    ] = None,
    bundles: NamedBundles = None,
    endpoint: Endpoint = None,
    prefix: Prefix = DEFAULT_TABLE_PREFIX,
) -> None:
    """Store the histories of a log, or of the current bundle, in place of what is there.

    Users without a play in it keep theirs. A load that broke off is run again from its beginning;
    what it had stored is stored again.
    """
    if (directory is None) == (bundles is None):
        _fail("name a log directory or a store with --bundles, one of them")
    table = HistoryTable(prefix)
    try:
        if bundles is not None:
            store = open_store(bundles)
            result = load_bundle_histories(
                store.open(store.current()), endpoint or None, table, shows_progress=True
            )
        else:
            assert directory is not None  # noqa: S101  for mypy, which does not see it above
            result = _load_log(directory, endpoint or None, table)
    except (BundleError, LogError, LogDirectoryError, DynamodbError) as exc:
        _fail(str(exc))
    typer.echo(
        f"{result.users:,} histories of {result.plays:,} plays are in {table.name}: "
        f"{result.users_per_s:,.0f} a second"
    )


@app.command()
def show(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="As the log names them.")],
    bundles: NamedBundles = None,
    count: Annotated[
        int, typer.Option(min=0, help="Newest plays to list, with the ids of --bundles.")
    ] = DEFAULT_SHOWN,
    endpoint: Endpoint = None,
    prefix: Prefix = DEFAULT_TABLE_PREFIX,
) -> None:
    """Print what is stored of a user."""
    user_key = item_key(user_id)
    try:
        stored = _reader(endpoint or None, HistoryTable(prefix)).read(user_key)
        ids = _ids(bundles, stored) if bundles is not None and stored is not None else {}
    except (BundleError, DynamodbError, PackedHistoryError) as exc:
        _fail(str(exc))
    if stored is None:
        _fail(f"nothing is stored of user {user_id!r}, whose key is {user_key:016x}")
    _describe(user_id, user_key, stored)
    for key, time_s in zip(*_newest(stored, count), strict=True):
        typer.echo(f"  {_moment(time_s)}  {ids.get(key) or f'item key {key:016x}'}")


def _load_log(directory: Path, endpoint: str | None, table: HistoryTable) -> HistoryLoad:
    log = read_event_log(directory)
    writer = DynamodbHistoryWriter.connect(endpoint, table, connections=LOAD_THREADS)
    return load_histories(
        histories_of(log.events, log.user_keys), log.catalogue.keys, writer, shows_progress=True
    )


def _reader(endpoint: str | None, table: HistoryTable) -> DynamodbHistoryReader:
    return DynamodbHistoryReader.connect(
        endpoint,
        table,
        connect_timeout_s=BULK_CONNECT_TIMEOUT_S,
        read_timeout_s=BULK_READ_TIMEOUT_S,
        connections=1,
    )


def _ids(bundles: Path, stored: StoredHistory) -> dict[int, str]:
    """Return the id of every stored item that the current bundle of a store knows, by key."""
    store = open_store(bundles)
    bundle = store.open(store.current())
    with readable(bundle):
        items, texts = ItemKeys.open(bundle.path), ItemTexts.open(bundle.path)
    rows = items.rows_of_keys(stored.item_keys).tolist()
    pairs = zip(stored.item_keys.tolist(), rows, strict=True)
    return {key: texts.item_id(row) for key, row in pairs if row >= 0}


def _describe(user_id: str, user_key: int, stored: StoredHistory) -> None:
    typer.echo(
        f"user {user_id}, key {user_key:016x}: {len(stored.item_keys):,} newest of "
        f"{stored.plays_ever:,} plays, {len(pack(stored)):,} bytes"
    )
    typer.echo(
        f"filter of {stored.keys_held:,} items, {len(stored.seen_filter):,} bytes: holds back "
        f"{1e3 * held_back_share(stored.seen_filter):.2g} in 1,000 unseen items"
    )


def _newest(stored: StoredHistory, count: int) -> tuple[list[int], list[int]]:
    return (
        stored.item_keys[::-1][:count].tolist(),
        stored.times_s[::-1][:count].tolist(),
    )


def _moment(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M}" if time_s else "-" * 16


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
