"""Real service processes, started as the mesh starts them, and what their refusals say."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from tests.integration.meshkit_children import ROOT, Child, free_port


@contextmanager
def service(directory: Path, name: str, **settings: str) -> Iterator[Child]:
    """Run `services.<name>` until the block ends; it serves when the block begins."""
    with _process(directory, name, settings) as running:
        running.wait_until_serving()
        yield running


@contextmanager
def started_service(directory: Path, name: str, **settings: str) -> Iterator[tuple[Child, str]]:
    """Run `services.<name>` at the address given, serving or not, until the block ends."""
    address = f"127.0.0.1:{free_port()}"
    with _process(directory, name, {**settings, "RECMESH_LISTEN": address}) as running:
        yield running, address


@contextmanager
def _process(directory: Path, name: str, settings: Mapping[str, str]) -> Iterator[Child]:
    address_file = directory / f"{name}.address"
    errors = directory / f"{name}.errors"
    environment = {**os.environ, "RECMESH_ADDRESS_FILE": str(address_file), **settings}
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=environment, stderr=stderr
        )
    try:
        yield Child(name, process, address_file, errors)
    finally:
        process.kill()
        process.wait()


def violations(error: grpc.RpcError) -> dict[str, str]:
    """Return the description of every field that a refused call's BadRequest names."""
    detail = BadRequest()
    (packed,) = rpc_status.from_call(error).details
    assert packed.Unpack(detail)
    return {each.field: each.description for each in detail.field_violations}
