"""`meshctl history`, on an embedded engine."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshctl.history import app as history
from meshctl.prepare import prepare_dynamodb
from meshkit.bundles import Bundle
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, bulk_client
from pipeline.log_directory import connect, new_log_directory, write_log
from services.gateway.adapters.dynamodb_history_reader import DynamodbHistoryReader
from services.gateway.adapters.dynamodb_history_writer import DynamodbHistoryWriter
from services.gateway.adapters.history_table import HistoryTable, create_history_table
from signals.bundle import Histories, ItemKeys
from signals.keys import item_key
from tests.small_bundle import USER_IDS

EVENTS = [("ann", "a", 1_400_000_000), ("ann", "b", 1_400_000_060), ("bo", "a", 1_400_000_000)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with EmbeddedDynamodb() as engine:
        yield engine.endpoint


@pytest.fixture(autouse=True)
def no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "RECMESH_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def table(endpoint: str) -> HistoryTable:
    fresh = HistoryTable(f"t{uuid.uuid4().hex[:12]}")
    create_history_table(bulk_client(endpoint), fresh)
    return fresh


@pytest.fixture
def log(tmp_path: Path) -> Path:
    out = tmp_path / "log"
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
        for position, (user_id, item_id, at_s) in enumerate(EVENTS):
            row = [user_id, item_id, at_s, position]
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, 'play', 1.0, NULL)", row)
        with new_log_directory(out) as directory:
            write_log(db, directory, log_format="events", order="time", rejected={})
    return out


def run(endpoint: str, table: HistoryTable, *arguments: str) -> Result:
    options = ("--endpoint", endpoint, "--prefix", table.prefix)
    return CliRunner().invoke(history, [*arguments, *options])


def test_a_log_is_loaded_and_shown(endpoint: str, table: HistoryTable, log: Path) -> None:
    loaded = run(endpoint, table, "load", str(log))
    shown = run(endpoint, table, "show", "ann")

    assert loaded.exit_code == 0, loaded.output
    assert f"2 histories of 3 plays are in {table.name}: " in loaded.stdout
    assert " a second" in loaded.stdout
    assert shown.stdout.splitlines() == [
        f"user ann, key {item_key('ann'):016x}: 2 newest of 2 plays, 304 bytes",
        "filter of 2 items, 256 bytes: holds back 1.4e-14 in 1,000 unseen items",
        f"  2014-05-13 16:54  item key {item_key('b'):016x}",
        f"  2014-05-13 16:53  item key {item_key('a'):016x}",
    ]


def test_a_bundles_histories_are_loaded_and_shown_with_the_ids_of_its_items(
    endpoint: str, table: HistoryTable, small_bundle: Bundle
) -> None:
    store = ("--bundles", str(small_bundle.path.parent))
    rows, _ = Histories.open(small_bundle.path).of(item_key(USER_IDS[0]))

    loaded = run(endpoint, table, "load", *store)
    shown = run(endpoint, table, "show", USER_IDS[0], *store, "--count", "2")

    assert loaded.exit_code == 0, loaded.output
    assert f"{len(USER_IDS)} histories" in loaded.stdout
    assert f"of {len(rows)} plays" in shown.stdout
    assert len(shown.stdout.splitlines()) == 4
    assert "item key" not in shown.stdout


def test_loading_a_log_leaves_users_without_a_play_in_it_alone(
    endpoint: str, table: HistoryTable, log: Path
) -> None:
    writer = DynamodbHistoryWriter.connect(endpoint, table)
    writer.append(item_key("cy"), np.array([5], dtype=np.uint64), np.array([10]))

    run(endpoint, table, "load", str(log))

    assert run(endpoint, table, "show", "cy").exit_code == 0


def test_a_stranger_is_an_error_that_names_the_key(endpoint: str, table: HistoryTable) -> None:
    shown = run(endpoint, table, "show", "nobody")

    assert shown.exit_code == 1
    assert f"nothing is stored of user 'nobody', whose key is {item_key('nobody'):016x}" in (
        shown.stderr
    )


def test_a_missing_table_fails_and_names_the_command(endpoint: str, log: Path) -> None:
    for arguments in (["load", str(log)], ["show", "ann"]):
        failed = run(endpoint, HistoryTable("missing"), *arguments)

        assert failed.exit_code == 1
        assert "`meshctl dynamodb create` makes it" in failed.stderr


@pytest.mark.parametrize("arguments", [[], ["log", "--bundles", "bundles"]])
def test_exactly_one_thing_is_loaded(
    endpoint: str, table: HistoryTable, arguments: list[str]
) -> None:
    failed = run(endpoint, table, "load", *arguments)

    assert failed.exit_code == 1
    assert "one of them" in failed.stderr


def test_what_is_no_log_or_no_store_fails_with_its_name(
    endpoint: str, table: HistoryTable, tmp_path: Path
) -> None:
    no_log = run(endpoint, table, "load", str(tmp_path))
    no_store = run(endpoint, table, "load", "--bundles", str(tmp_path))

    assert (no_log.exit_code, no_store.exit_code) == (1, 1)
    assert str(tmp_path) in no_log.stderr
    assert str(tmp_path) in no_store.stderr


def test_a_fresh_dynamodb_gets_histories_where_they_are_asked_for(
    endpoint: str, small_bundle: Bundle
) -> None:
    reader = DynamodbHistoryReader(bulk_client(endpoint), HistoryTable(DEFAULT_TABLE_PREFIX))
    store = small_bundle.path.parent

    prepare_dynamodb(endpoint, bundles=store, version=small_bundle.version)
    without = reader.read(item_key(USER_IDS[0]))
    prepare_dynamodb(endpoint, bundles=store, version=small_bundle.version, with_histories=True)
    stored = reader.read(item_key(USER_IDS[0]))

    assert without is None
    assert stored is not None
    assert (ItemKeys.open(small_bundle.path).rows_of_keys(stored.item_keys) >= 0).all()
