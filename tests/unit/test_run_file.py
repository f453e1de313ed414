"""The run file and the identity of the processes that it names."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.process_identity import ProcessIdentity, identify
from meshctl.run_file import Run, RunFile, RunFileError, RunningProcess, read_run

RUN = Run(
    started_at="2024-05-01T12:00:00+00:00",
    bundles="bundles",
    clock="bundle",
    control_file=".recmesh/control.json",
    supervisor=identify(os.getpid()),
    processes=(RunningProcess("ranker", "127.0.0.1:9", 4711, "boot/1", "grpc", 3),),
)


@pytest.fixture
def ended_pid() -> Iterator[int]:
    """A pid that is a zombie: it exists and does not run."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = RunFile(tmp_path)
    file.claim()

    file.write(RUN)

    assert read_run(file.path) == RUN
    file.release()


def test_processes_are_listed_by_name_address_and_pid(tmp_path: Path) -> None:
    file = RunFile(tmp_path)
    file.claim()

    file.write(RUN)

    (process,) = json.loads(file.path.read_text())["processes"]
    assert (process["name"], process["address"], process["pid"]) == ("ranker", "127.0.0.1:9", 4711)
    file.release()


def test_gateways_are_found_by_name_also_those_that_are_being_started_again() -> None:
    run = replace(
        RUN,
        processes=(
            RunningProcess("fault-candidates-ann", "127.0.0.1:1", 4711, "boot/1", "grpc"),
            RunningProcess("gateway-1", "127.0.0.1:2", 4711, "boot/1", "grpc"),
            RunningProcess("gateway-2", "127.0.0.1:3", 4711, "boot/1", "grpc"),
            RunningProcess("gateway-3", "", 4711, "boot/1", "grpc"),
        ),
    )

    assert run.gateway_addresses() == ("127.0.0.1:2", "127.0.0.1:3")
    unattended = replace(run, supervisor=ProcessIdentity(4711, "boot/1"))
    assert unattended.gateway_addresses() == ()


def test_a_second_claim_is_refused_naming_the_pid(tmp_path: Path) -> None:
    first = RunFile(tmp_path / ".recmesh")
    first.claim()
    first.write(RUN)

    with pytest.raises(RunFileError, match=rf"{tmp_path} already \(pid {os.getpid()}\)"):
        RunFile(tmp_path / ".recmesh").claim()

    first.release()


def test_a_refused_claim_leaves_the_run_file_alone(tmp_path: Path) -> None:
    first, second = RunFile(tmp_path), RunFile(tmp_path)
    first.claim()
    first.write(RUN)
    with pytest.raises(RunFileError):
        second.claim()

    second.release()

    assert read_run(first.path) == RUN
    first.release()


def test_releasing_removes_the_file_and_lets_the_next_claim(tmp_path: Path) -> None:
    first = RunFile(tmp_path)
    first.claim()
    first.write(RUN)

    first.release()

    assert not first.path.exists()
    second = RunFile(tmp_path)
    second.claim()
    second.release()


def test_a_file_whose_writer_died_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """Even one that names a living pid: pids come again."""
    (tmp_path / "run.json").write_text(
        '{"started_at": "", "bundles": "", "clock": "", "control_file": "", "processes": [],'
        f' "supervisor": {{"pid": {os.getpid()}, "started": "another boot/1"}}}}'
    )

    file = RunFile(tmp_path)
    file.claim()
    file.write(RUN)

    assert read_run(file.path) == RUN
    file.release()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object, not list"),
        ('{"started_at": ""}', "bundles"),
        (
            '{"started_at": "", "bundles": "", "clock": "", "control_file": "", "processes": [],'
            ' "supervisor": {"pid": -1, "started": ""}}',
            "not -1",
        ),
        (
            '{"started_at": "", "bundles": "", "clock": "", "control_file": "",'
            ' "supervisor": {"pid": 1, "started": ""}, "processes": [{"name": "ranker",'
            ' "address": "", "pid": 1, "started": "", "protocol": "grpc", "restarts": -2}]}',
            "not -2",
        ),
    ],
)
def test_a_broken_file_is_refused_naming_it_and_its_fault(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)

    with pytest.raises(RunFileError) as refusal:
        read_run(path)

    assert str(path) in str(refusal.value)
    assert fault in str(refusal.value)


def test_a_running_process_is_alive() -> None:
    assert identify(os.getpid()).is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells a start time")
def test_a_later_process_with_the_same_pid_is_another() -> None:
    now = identify(os.getpid())

    assert not ProcessIdentity(now.pid, now.started + "0").is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells a zombie")
def test_a_zombie_is_not_alive(ended_pid: int) -> None:
    assert not ProcessIdentity(ended_pid, "boot/1").is_alive()
    assert identify(ended_pid).started == ""


def test_without_a_start_time_the_pid_alone_decides() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    identity = ProcessIdentity(process.pid)
    assert identity.is_alive()

    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not identity.is_alive()
