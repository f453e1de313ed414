"""Fault proxies as processes of their own, none of which outlives its test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshctl.faults import FaultControl, FaultLevel
from tests.integration.meshkit_children import ROOT, Child


@dataclass(frozen=True, slots=True)
class FaultProxy:
    """A proxy that relays, and the means to make it fail."""

    child: Child
    control: FaultControl

    @property
    def address(self) -> str:
        return self.child.address


@contextmanager
def fault_proxy(directory: Path, level: FaultLevel, upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy before `upstream` until the block ends; it relays when the block begins."""
    control = FaultControl(directory / f"{level}.fault.json")
    settings = {
        "RECMESH_UPSTREAM": upstream,
        "RECMESH_FAULT_LEVEL": level.value,
        "RECMESH_FAULT_FILE": str(control.path),
    }
    with started_proxy(directory, level.value, **settings) as child:
        child.wait_until_serving()
        yield FaultProxy(child, control)


@contextmanager
def started_proxy(directory: Path, name: str, **settings: str) -> Iterator[Child]:
    """Run a proxy, relaying or not, until the block ends."""
    address_file = directory / f"{name}.address"
    errors = directory / f"{name}.errors"
    environment = {**os.environ, "RECMESH_ADDRESS_FILE": str(address_file), **settings}
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "meshctl.faults"], cwd=ROOT, env=environment, stderr=stderr
        )
    try:
        yield Child(name, process, address_file, errors)
    finally:
        process.kill()
        process.wait()
