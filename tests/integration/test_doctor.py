"""The machine checks against real ports, bundles, child processes and a real DynamoDB API."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from meshctl.doctor import (
    CHECKS,
    Finding,
    Machine,
    cpp_compiler,
    current_bundle,
    disk_space,
    doctor,
    dynamodb,
    gateway_port,
    native_part,
)
from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshkit.bundles import Bundle, open_store
from services.candidates.adapters.dynamodb_client import bulk_client
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.gateway.adapters.history_table import HistoryTable, create_history_table


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with EmbeddedDynamodb() as engine:
        yield engine.endpoint


def a_machine(tmp_path: Path, *, port: int = 0, **environment: str) -> Machine:
    return Machine(tmp_path / "bundles", port, environment)


def a_published_bundle(tmp_path: Path) -> Bundle:
    def write(directory: Path) -> None:
        (directory / "items.bin").write_bytes(b"abc")

    return open_store(tmp_path / "bundles").publish(write, {}, now=datetime(2024, 5, 1, tzinfo=UTC))


def verdict_and_detail(finding: Finding) -> tuple[str, str]:
    return finding.verdict, finding.detail


def test_a_native_part_that_works_is_ok(tmp_path: Path) -> None:
    finding = native_part(a_machine(tmp_path), module="json", probe="assert 1 + 1 == 2")

    assert finding.verdict == "OK"


def test_a_native_part_that_crashes_is_a_verdict(tmp_path: Path) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"

    finding = native_part(a_machine(tmp_path), module="annoy", probe=crash)

    assert verdict_and_detail(finding) == ("FAIL", "SIGSEGV")
    assert "annoy" in finding.mend


def test_a_native_part_that_is_missing_fails_with_the_interpreters_words(tmp_path: Path) -> None:
    finding = native_part(a_machine(tmp_path), module="annoy", probe="import no_such_module")

    assert finding.verdict == "FAIL"
    assert "No module named 'no_such_module'" in finding.detail


def test_no_compiler_is_a_warning_that_says_what_to_install(tmp_path: Path) -> None:
    finding = cpp_compiler(a_machine(tmp_path, PATH=str(tmp_path)))

    assert finding.verdict == "WARN"
    assert "install g++" in finding.mend


def test_a_taken_port_fails_naming_it(tmp_path: Path, taken_port: int) -> None:
    finding = gateway_port(a_machine(tmp_path, port=taken_port))

    assert finding.verdict == "FAIL"
    assert f"port {taken_port} cannot be used: address already in use" in finding.detail


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_does_not_exist_fails(tmp_path: Path, port: int) -> None:
    finding = gateway_port(a_machine(tmp_path, port=port))

    assert verdict_and_detail(finding) == (
        "FAIL",
        f"port {port} does not exist: ports are 0 to 65535",
    )


def test_no_bundle_yet_is_a_warning_that_names_the_command(tmp_path: Path) -> None:
    finding = current_bundle(a_machine(tmp_path))

    assert finding.verdict == "WARN"
    assert f"meshctl train LOG_DIRECTORY --bundles {tmp_path}" in finding.mend


def test_a_whole_bundle_is_ok(tmp_path: Path) -> None:
    bundle = a_published_bundle(tmp_path)

    finding = current_bundle(a_machine(tmp_path))

    assert verdict_and_detail(finding) == ("OK", f"{bundle.version}: 1 files verified")


def test_a_damaged_bundle_fails_naming_the_file(tmp_path: Path) -> None:
    damaged = a_published_bundle(tmp_path).path / "items.bin"
    damaged.write_bytes(b"abd")

    finding = current_bundle(a_machine(tmp_path))

    assert finding.verdict == "FAIL"
    assert str(damaged) in finding.detail


def test_a_pointer_to_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "CURRENT").write_text("gone\n")

    finding = current_bundle(a_machine(tmp_path))

    assert finding.verdict == "FAIL"
    assert "gone" in finding.detail


def test_disk_space_is_measured_where_the_bundles_will_be(tmp_path: Path) -> None:
    finding = disk_space(a_machine(tmp_path))

    assert finding.detail.endswith(f"GiB free in {tmp_path}")


def test_without_an_endpoint_dynamodb_is_embedded(tmp_path: Path) -> None:
    finding = dynamodb(a_machine(tmp_path))

    assert finding.verdict == "OK"
    assert "embedded" in finding.detail


def test_an_endpoint_that_nothing_answers_at_fails(tmp_path: Path) -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}"

        finding = dynamodb(a_machine(tmp_path, RECMESH_DYNAMODB_ENDPOINT=endpoint))

    assert finding.verdict == "FAIL"
    assert endpoint in finding.detail


def test_an_endpoint_without_tables_is_a_warning_that_names_the_command(
    tmp_path: Path, endpoint: str
) -> None:
    machine = a_machine(tmp_path, RECMESH_DYNAMODB_ENDPOINT=endpoint, RECMESH_TABLE_PREFIX="nobody")

    finding = dynamodb(machine)

    assert finding.verdict == "WARN"
    assert "nobody_trend_counts, nobody_trend_top, nobody_histories" in finding.detail
    assert finding.mend == "meshctl dynamodb create"


def test_an_endpoint_with_the_tables_is_ok(tmp_path: Path, endpoint: str) -> None:
    create_trending_tables(bulk_client(endpoint), TrendingTables("ours"))
    create_history_table(bulk_client(endpoint), HistoryTable("ours"))
    machine = a_machine(tmp_path, RECMESH_DYNAMODB_ENDPOINT=endpoint, RECMESH_TABLE_PREFIX="ours")

    finding = dynamodb(machine)

    assert finding.verdict == "OK"


def test_the_command_reports_every_check_and_exits_1_on_a_failure(
    tmp_path: Path, taken_port: int
) -> None:
    app = typer.Typer()
    app.command()(doctor)
    arguments = ["--bundles", str(tmp_path), "--port", str(taken_port), "--json"]

    result = CliRunner().invoke(app, arguments)

    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert len(findings) == len(CHECKS)
    assert {findings[name]["verdict"] for name in ("annoy", "lightgbm", "implicit")} == {"OK"}
    failed = [name for name, finding in findings.items() if finding["verdict"] == "FAIL"]
    assert "gateway port" in failed
    assert all(findings[name]["mend"] for name in failed)
    assert result.exit_code == 1
