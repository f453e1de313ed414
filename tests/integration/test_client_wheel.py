"""The client's wheel: what client teams install."""

import re
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.integration.client_wheel import ROOT, build_client_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def floors(wheel: Path) -> dict[str, str]:
    """The oldest version of each distribution that the wheel asks for."""
    with zipfile.ZipFile(wheel) as archive:
        metadata_file = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        required = message_from_bytes(archive.read(metadata_file)).get_all("Requires-Dist") or []
    return dict(re.findall(r"^([\w-]+).*>=([\d.]+)", "\n".join(required), re.MULTILINE))


def test_the_wheel_holds_the_client_and_every_stub_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}

    client = {
        f"recmesh_client/{path.name}"
        for path in (ROOT / "recmesh_client").iterdir()
        if path.suffix == ".py" or path.name == "py.typed"
    }
    stubs = {
        path.relative_to(ROOT / "gen").as_posix()
        for path in (ROOT / "gen" / "recmesh").rglob("*.py*")
        if path.suffix in {".py", ".pyi"}
    }
    assert files == client | stubs


def test_the_wheel_asks_for_the_versions_that_its_stubs_were_generated_with(
    wheel: Path, floors: dict[str, str]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        stub = archive.read("recmesh/gateway/v1/gateway_pb2.py").decode()
        grpc_stub = archive.read("recmesh/gateway/v1/gateway_pb2_grpc.py").decode()

    assert f"Protobuf Python Version: {floors['protobuf']}\n" in stub
    assert f"GRPC_GENERATED_VERSION = '{floors['grpcio']}'\n" in grpc_stub


def test_the_lock_of_the_oldest_client_pins_the_floors(floors: dict[str, str]) -> None:
    lock = (ROOT / "requirements" / "client-oldest.lock").read_text(encoding="utf-8")

    assert dict(re.findall(r"^([\w-]+)==([\d.]+)", lock, re.MULTILINE)) == floors
