"""Where traces are kept, and how many of them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.standard_mesh import MeshSettings, standard_mesh, standard_specs
from meshctl.traces.files import TraceFiles
from meshctl.traces.jaeger import Jaeger
from meshctl.traces.places import remove_old_traces, store_from, trace_directory_for
from tests.otlp_lines import TRACE, write_answer


@pytest.fixture(scope="module")
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(directory: Path, name: str, size: int, age_s: int) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(b"x" * size)
    os.utime(path, (10**9 - age_s, 10**9 - age_s))
    return path


def test_the_oldest_traces_go_when_there_are_too_many_bytes(tmp_path: Path, ended_pid: int) -> None:
    new = write(tmp_path, f"gateway-{ended_pid}.jsonl", 60, 1)
    old = write(tmp_path, f"gateway-{ended_pid}.jsonl.1", 60, 2)

    remove_old_traces(tmp_path, max_bytes=100)

    assert (new.exists(), old.exists()) == (True, False)


def test_the_oldest_traces_go_when_there_are_too_many_files(tmp_path: Path, ended_pid: int) -> None:
    written = [write(tmp_path, f"s{age_s}-{ended_pid}.jsonl", 1, age_s) for age_s in range(5)]

    remove_old_traces(tmp_path, max_files=3)

    assert [path.exists() for path in written] == [True, True, True, False, False]


def test_traces_of_running_processes_and_files_of_others_stay(
    tmp_path: Path, ended_pid: int
) -> None:
    running = write(tmp_path, f"gateway-{os.getpid()}.jsonl", 60, 9)
    others = write(tmp_path, "notes.jsonl", 60, 9)
    huge = write(tmp_path, f"gateway-{'9' * 30}.jsonl", 60, 9)
    ended = write(tmp_path, f"gateway-{ended_pid}.jsonl", 60, 1)

    remove_old_traces(tmp_path, max_bytes=0)

    assert [path.exists() for path in (running, others, huge, ended)] == [True, True, True, False]


def test_without_a_directory_there_is_nothing_to_remove(tmp_path: Path) -> None:
    remove_old_traces(tmp_path / "traces")

    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"},
        {"RECMESH_TRACE_DIR": "elsewhere"},
        {"RECMESH_TRACE_DIR": ""},  # nowhere
    ],
)
def test_what_the_caller_decided_stands(environ: Mapping[str, str]) -> None:
    assert trace_directory_for(Path(".recmesh"), environ) is None


@pytest.mark.parametrize("environ", [{}, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4317"}])
def test_traces_are_kept_in_the_state_directory_otherwise(environ: Mapping[str, str]) -> None:
    assert trace_directory_for(Path("state"), environ) == Path("state/traces").absolute()


def settings(directory: Path) -> MeshSettings:
    return MeshSettings(
        bundles=Path("bundles"),
        prepare_dynamodb=lambda _: None,
        port=0,
        state_directory=directory,
        trace_directory=directory / "traces",
    )


def test_every_service_of_a_mesh_writes_to_its_trace_directory(tmp_path: Path) -> None:
    specs = standard_specs(settings(tmp_path))

    services = [spec for spec in specs if spec.argv[0].startswith("services.")]
    assert len(services) == 5
    assert {spec.env["RECMESH_TRACE_DIR"] for spec in services} == {str(tmp_path / "traces")}
    assert {spec.env["OTEL_BSP_SCHEDULE_DELAY"] for spec in services} == {"250"}


def test_the_callers_own_delay_of_exports_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")

    specs = standard_specs(settings(tmp_path))

    assert {"100"} == {spec.env.get("OTEL_BSP_SCHEDULE_DELAY", "100") for spec in specs}


def test_a_mesh_without_one_leaves_it_to_the_environment(tmp_path: Path) -> None:
    specs = standard_specs(replace(settings(tmp_path), trace_directory=None))

    traced = {"RECMESH_TRACE_DIR", "OTEL_BSP_SCHEDULE_DELAY"}
    assert not [spec for spec in specs if traced & set(spec.env)]


def test_a_new_mesh_keeps_the_traces_of_the_last_and_not_of_all_before(
    tmp_path: Path, ended_pid: int
) -> None:
    for age in range(100):
        write(tmp_path / "traces", f"s{age}-{ended_pid}.jsonl", 1, age)

    standard_mesh(settings(tmp_path), say=lambda _: None)

    kept = {path.name for path in (tmp_path / "traces").iterdir()}
    assert len(kept) == 60
    assert f"s0-{ended_pid}.jsonl" in kept


def test_local_files_are_read_unless_jaeger_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_answer(tmp_path / ".recmesh" / "demo" / "traces")
    url = "http://127.0.0.1:16686"

    assert len(store_from({}).spans(TRACE)) == 6
    assert isinstance(store_from({"RECMESH_JAEGER": url}), Jaeger)
    assert isinstance(store_from({}, jaeger=url), Jaeger)
    assert isinstance(store_from({"RECMESH_JAEGER": url}, directory=tmp_path), TraceFiles)
    assert isinstance(store_from({"RECMESH_JAEGER": ""}), TraceFiles)


def test_the_directory_that_processes_write_to_is_read(tmp_path: Path) -> None:
    write_answer(tmp_path / "elsewhere")

    store = store_from({"RECMESH_TRACE_DIR": str(tmp_path / "elsewhere")})

    assert len(store.spans(TRACE)) == 6
    # Who writes there may do so as seldom as the SDK does by itself.
    assert store.wait_s >= 5 > store_from({}).wait_s


@pytest.mark.parametrize("url", ["127.0.0.1:16686", "file://host/etc/passwd", "http://", "jaeger"])
def test_what_is_no_url_of_jaeger_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no URL of Jaeger, such as http://127.0.0.1:16686"):
        store_from({}, jaeger=url)
