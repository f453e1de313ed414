"""The client's wheel: what client teams install."""

import importlib.util
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling builds the wheel and is not installed")
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(directory)),
            str(ROOT / "recmesh_client"),
        ],
        check=True,
    )
    return next(directory.iterdir())


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


def test_the_wheel_asks_for_the_versions_that_its_stubs_were_generated_with(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata_file = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        required = message_from_bytes(archive.read(metadata_file)).get_all("Requires-Dist") or []
        stub = archive.read("recmesh/gateway/v1/gateway_pb2.py").decode()
        grpc_stub = archive.read("recmesh/gateway/v1/gateway_pb2_grpc.py").decode()

    floors = dict(re.findall(r"^([\w-]+).*>=([\d.]+)", "\n".join(required), re.MULTILINE))
    assert f"Protobuf Python Version: {floors['protobuf']}\n" in stub
    assert f"GRPC_GENERATED_VERSION = '{floors['grpcio']}'\n" in grpc_stub
