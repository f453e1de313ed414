"""`meshctl doctor`: is this machine fit to train and serve, and how to mend it if not."""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from meshctl.child_process import describe_exit
from meshctl.ports import port_fault
from meshctl.standard_mesh import (
    DEFAULT_BUNDLES,
    DEFAULT_PORT,
    DYNAMODB_ENDPOINT,
    TABLE_PREFIX,
)
from meshkit.bundles import POINTER, BundleError, open_store
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from services.candidates.adapters.dynamodb_client import dynamodb_client, translated_errors
from services.candidates.adapters.trending_tables import TrendingTables
from services.candidates.domain.trending import TrendingStoreError
from services.gateway.adapters.history_table import HistoryTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Verdict = Literal["OK", "WARN", "FAIL"]

OLDEST_PYTHON = (3, 11)
DISK_NEEDED_GIB = 0.5
"""A small bundle, its temporary copy, kernels and logs."""
DISK_WANTED_GIB = 5.0
"""Room for several bundles of a real log."""
FILES_NEEDED = 256
FILES_WANTED = 1024
"""A gateway under load holds a connection for each caller and worker."""
DYNAMODB_TIMEOUT_S = 3.0
"""To read an answer, twice: a local engine on busy cores is slow, and that is no fault of it."""
PROBE_TIMEOUT_S = 60.0

_GIB = 1024**3
_COLOURS: Mapping[Verdict, str] = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at: a bundle store, the gateway's port, the environment."""

    bundles: Path
    port: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `mend` says what to do unless it is OK."""

    check: str
    verdict: Verdict
    detail: str
    mend: str = ""


Check = Callable[[Machine], Finding]


def doctor(
    bundles: Annotated[Path, typer.Option(help="Bundle store.")] = DEFAULT_BUNDLES,
    port: Annotated[int, typer.Option(help="The gateway's port.")] = DEFAULT_PORT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine and say how to mend what is wrong; exits 1 when something is."""
    machine = Machine(bundles, port, os.environ)
    with Console(stderr=True).status("examining this machine"):
        findings = list(examine(machine))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        Console().print(_table(findings))
    raise typer.Exit(any(finding.verdict == "FAIL" for finding in findings))


def examine(machine: Machine) -> Iterator[Finding]:
    """Run every check in turn."""
    return (check(machine) for check in CHECKS)


def python_version(_: Machine) -> Finding:
    """Check the interpreter's version."""
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", "FAIL", found, "make the virtual environment with 3.11 or newer")
    return Finding("Python", "OK", found)


def cpp_compiler(machine: Machine) -> Finding:
    """Look for a compiler, for the next installation."""
    names = (machine.environment.get("CXX", "c++"), "g++", "clang++")
    path = machine.environment.get("PATH", os.defpath)
    found = next((where for name in names if (where := shutil.which(name, path=path))), None)
    if found is None:
        mend = "install g++ or clang++ (Debian: apt-get install g++; macOS: xcode-select --install)"
        detail = "none found; Annoy is compiled when it is installed"
        return Finding("C++ compiler", "WARN", detail, mend)
    return Finding("C++ compiler", "OK", found)


def native_part(_: Machine, *, module: str, probe: str) -> Finding:
    """Try a compiled dependency in a child process, since a bad build crashes."""
    command = [sys.executable, "-P", "-c", probe]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter and code
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(module, "FAIL", f"no answer in {PROBE_TIMEOUT_S:g} s", _reinstall(module))
    if ended.returncode != 0:
        last_words = "; ".join(ended.stderr.strip().splitlines()[-1:])
        detail = ": ".join(filter(None, (describe_exit(ended.returncode), last_words)))
        return Finding(module, "FAIL", detail, _reinstall(module))
    return Finding(module, "OK", "works")


def gateway_port(machine: Machine) -> Finding:
    """Check that the gateway can listen."""
    fault = port_fault(machine.port)
    if fault is not None:
        mend = "see `meshctl status`; stop what listens there or choose another with --port"
        return Finding("gateway port", "FAIL", fault, mend)
    return Finding("gateway port", "OK", f"port {machine.port} is free")


def dynamodb(machine: Machine) -> Finding:
    """Look for the DynamoDB that trending is served from."""
    endpoint = machine.environment.get(DYNAMODB_ENDPOINT)
    if endpoint:
        return _dynamodb_at(endpoint, machine.environment)
    if find_spec("moto") is None:
        mend = f"install moto[dynamodb,server], or set {DYNAMODB_ENDPOINT}"
        return Finding("DynamoDB", "FAIL", "moto, the embedded engine, is not installed", mend)
    return Finding("DynamoDB", "OK", f"embedded ({DYNAMODB_ENDPOINT} is not set)")


def current_bundle(machine: Machine) -> Finding:
    """Check that there is a bundle to serve and that it is whole."""
    if not (machine.bundles / POINTER).is_file():
        mend = f"publish one: meshctl train LOG_DIRECTORY --bundles {machine.bundles}"
        return Finding("bundle", "WARN", f"none in {machine.bundles} yet", mend)
    try:
        bundle = open_store(machine.bundles).open()
    except BundleError as exc:
        mend = "go back with `meshctl bundle rollback`, or `meshctl bundle promote` a sound version"
        return Finding("bundle", "FAIL", str(exc), mend)
    return Finding("bundle", "OK", f"{bundle.version}: {len(bundle.manifest.files)} files verified")


def disk_space(machine: Machine) -> Finding:
    """Check that there is room to publish a bundle."""
    there = machine.bundles.absolute()
    directory = next(one for one in (there, *there.parents) if one.is_dir())
    free_gib = shutil.disk_usage(directory).free / _GIB
    mend = f"make room on the disk of {directory}: {DISK_WANTED_GIB:g} GiB are plenty"
    return Finding(
        "disk space",
        _graded(free_gib, needed=DISK_NEEDED_GIB, wanted=DISK_WANTED_GIB),
        f"{free_gib:.1f} GiB free in {directory}",
        "" if free_gib >= DISK_WANTED_GIB else mend,
    )


def open_files(_: Machine) -> Finding:
    """Check how many files and connections a process may open."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = sys.maxsize if limit == resource.RLIM_INFINITY else limit
    return Finding(
        "open files",
        _graded(files, needed=FILES_NEEDED, wanted=FILES_WANTED),
        f"{files} a process",
        "" if files >= FILES_WANTED else f"ulimit -n {FILES_WANTED}",
    )


_NATIVE_PROBES: Mapping[str, str] = {
    "annoy": "from annoy import AnnoyIndex\n"
    "index = AnnoyIndex(2, 'angular'); index.add_item(0, [1, 0]); index.build(1)\n"
    "assert index.get_nns_by_item(0, 1) == [0]",
    "lightgbm": "import lightgbm, numpy\n"
    "rows = numpy.arange(8.0).reshape(8, 1)\n"
    "lightgbm.train({'verbose': -1, 'num_threads': 1}, lightgbm.Dataset(rows, rows[:, 0]), 1)",
    "implicit": "import implicit.als, scipy.sparse\n"
    "plays = scipy.sparse.eye(4, format='csr', dtype='float32')\n"
    "als = implicit.als.AlternatingLeastSquares(2, iterations=1, num_threads=1)\n"
    "als.fit(plays, show_progress=False)",
}

CHECKS: tuple[Check, ...] = (
    python_version,
    cpp_compiler,
    *(partial(native_part, module=name, probe=code) for name, code in _NATIVE_PROBES.items()),
    gateway_port,
    dynamodb,
    current_bundle,
    disk_space,
    open_files,
)


def _reinstall(module: str) -> str:
    hint = " (it needs libgomp1 on Debian, libomp on macOS)" if module == "lightgbm" else ""
    return f"pip install --force-reinstall --no-cache-dir {module}{hint}"


def _dynamodb_at(endpoint: str, environment: Mapping[str, str]) -> Finding:
    prefix = environment.get(TABLE_PREFIX) or DEFAULT_TABLE_PREFIX
    tables = TrendingTables(prefix)
    names = (tables.counts, tables.top, HistoryTable(prefix).name)
    try:
        missing = _missing_tables(
            dynamodb_client(endpoint, read_timeout_s=DYNAMODB_TIMEOUT_S), names
        )
    except TrendingStoreError as exc:
        mend = f"start or mend it, or unset {DYNAMODB_ENDPOINT} to have an embedded one"
        return Finding("DynamoDB", "FAIL", f"{endpoint}: {exc}", mend)
    if missing:
        detail = f"{endpoint}: no table {', '.join(missing)}"
        return Finding("DynamoDB", "WARN", detail, "meshctl dynamodb create")
    return Finding("DynamoDB", "OK", f"{endpoint}: {', '.join(names)} are there")


def _missing_tables(client: "DynamoDBClient", names: Sequence[str]) -> list[str]:
    with translated_errors("list the tables"):
        pages = client.get_paginator("list_tables").paginate()
        there = {name for page in pages for name in page["TableNames"]}
    return [name for name in names if name not in there]


def _graded(amount: float, *, needed: float, wanted: float) -> Verdict:
    if amount < needed:
        return "FAIL"
    return "WARN" if amount < wanted else "OK"


def _table(findings: Sequence[Finding]) -> Table:
    table = Table()
    for heading in ("check", "verdict", "found", "how to mend it"):
        table.add_column(heading, overflow="fold")
    for one in findings:
        verdict = f"[{_COLOURS[one.verdict]}]{one.verdict}[/]"
        table.add_row(one.check, verdict, one.detail, one.mend)
    return table
