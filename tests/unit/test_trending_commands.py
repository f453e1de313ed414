"""`meshctl dynamodb` and `meshctl trending`, on an embedded engine."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshctl.dynamodb import app as dynamodb
from meshctl.embedded_dynamodb import DEFAULT_LISTEN, EmbeddedDynamodb, EmbeddedDynamodbError, serve
from meshctl.trending import app as trending
from pipeline.log_directory import Order, connect, new_log_directory, write_log
from services.candidates.adapters.dynamodb_client import (
    BULK_READ_TIMEOUT_S,
    bulk_client,
    dynamodb_client,
)
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.domain.trending import GLOBAL, TrendingStoreMisconfiguredError
from signals.keys import item_key

ENDED_AT_S = 1_400_000_000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with EmbeddedDynamodb() as engine:
        yield engine.endpoint


@pytest.fixture(autouse=True)
def no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "RECMESH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_one_play(tmp_path / "log", at_s=ENDED_AT_S, order="time")


def write_one_play(out: Path, *, at_s: int | None, order: Order) -> Path:
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
        db.execute("INSERT INTO events VALUES ('u', 'a', ?, 0, 'play', 1.0, NULL)", [at_s])
        with new_log_directory(out) as directory:
            write_log(db, directory, log_format="events", order=order, rejected={})
    return out


def run(app: object, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)  # type: ignore[arg-type] # a typer.Typer


def test_tables_are_created_once(endpoint: str) -> None:
    arguments = ("create", "--endpoint", endpoint, "--prefix", "once")

    first, second = run(dynamodb, *arguments), run(dynamodb, *arguments)

    tables = ("once_trend_counts", "once_trend_top", "once_histories")
    assert first.output.splitlines() == [f"{table}: created" for table in tables]
    assert second.output.splitlines() == [f"{table}: exists" for table in tables]


def patient_store(endpoint: str, tables: TrendingTables) -> DynamodbTrendingStore:
    """Return a store for the engine, which is slow where DynamoDB is not."""
    return DynamodbTrendingStore.connect(endpoint, tables, read_timeout_s=BULK_READ_TIMEOUT_S)


def test_a_log_that_ended_long_ago_is_loaded_as_of_its_end(
    endpoint: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_DYNAMODB_ENDPOINT", endpoint)
    run(dynamodb, "create", "--prefix", "ended")

    loaded = run(trending, "load", str(log), "--prefix", "ended", "--clock", "bundle")

    assert loaded.exit_code == 0, loaded.output
    assert "1 events counted in 1 segments; 29 tops written" in loaded.output
    store = patient_store(endpoint, TrendingTables("ended"))
    tops = store.read_segment(GLOBAL, ENDED_AT_S)
    assert [top.keys.tolist() for top in tops if len(top.keys)] == [[item_key("a")]]
    rows = bulk_client(endpoint).scan(TableName="ended_trend_counts")["Items"]
    assert rows
    assert not any("expires_at" in row for row in rows)


@pytest.mark.parametrize(("order", "clock"), [("position", "bundle"), ("none", "wall")])
def test_a_log_without_times_is_found_by_the_clock_it_was_loaded_by(
    endpoint: str, tmp_path: Path, order: Order, clock: str
) -> None:
    log = write_one_play(tmp_path / "log", at_s=None, order=order)
    options = ("--endpoint", endpoint, "--prefix", f"timeless_{clock}")
    run(dynamodb, "create", *options)

    loaded = run(trending, "load", str(log), *options, "--clock", clock)

    assert loaded.exit_code == 0, loaded.output
    store = patient_store(endpoint, TrendingTables(f"timeless_{clock}"))
    tops = store.read_segment(GLOBAL, {"bundle": 0.0, "wall": time.time()}[clock])
    assert [key for top in tops for key in top.keys] == [item_key("a")]


def test_a_window_without_events_fails_and_names_the_other_clock(endpoint: str, log: Path) -> None:
    loaded = run(trending, "load", str(log), "--endpoint", endpoint, "--clock", "wall")

    assert loaded.exit_code == 1
    assert "--clock bundle" in loaded.stderr


def test_missing_tables_fail_and_name_the_command(endpoint: str, log: Path) -> None:
    options = ("--endpoint", endpoint, "--prefix", "missing", "--clock", "bundle")

    loaded = run(trending, "load", str(log), *options)

    assert loaded.exit_code == 1
    assert "meshctl dynamodb create" in loaded.stderr


def test_a_folder_that_is_no_log_fails_with_its_name(endpoint: str, tmp_path: Path) -> None:
    loaded = run(trending, "load", str(tmp_path), "--endpoint", endpoint)

    assert loaded.exit_code == 1
    assert "is not a log directory" in loaded.stderr


def test_without_an_engine_and_a_region_it_says_what_is_missing() -> None:
    created = run(dynamodb, "create")

    assert created.exit_code == 1
    assert "AWS_DEFAULT_REGION" in created.stderr


def test_without_credentials_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    created = run(dynamodb, "create")

    assert created.exit_code == 1
    assert "no AWS credentials" in created.stderr


def test_an_endpoint_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    with pytest.raises(TrendingStoreMisconfiguredError, match="Invalid endpoint"):
        dynamodb_client("http://a b")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:80", "localhost", "127.0.0.1:x"])
def test_the_embedded_engine_listens_on_loopback_only(listen: str) -> None:
    with pytest.raises(EmbeddedDynamodbError, match="RECMESH_LISTEN"):
        serve(listen, None)


def test_the_embedded_engine_ends_when_told_to(tmp_path: Path) -> None:
    engine = EmbeddedDynamodb(log_path=tmp_path / "dynamodb.log")
    engine.start()
    pid = engine.pid

    engine.stop()
    engine.stop()

    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert DEFAULT_LISTEN.startswith("127.0.0.1:")


def test_an_engine_that_is_too_slow_is_given_up_and_ended() -> None:
    engine = EmbeddedDynamodb(deadline_s=0.0)

    with pytest.raises(EmbeddedDynamodbError, match="did not serve within 0 s"):
        engine.start()

    assert engine.pid is None
