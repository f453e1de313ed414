"""Builds the client's wheel from the tree, without a network."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_client_wheel(directory: Path) -> Path:
    """Return the wheel, built into an empty directory; skips the test without hatchling."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling builds the wheel and is not installed")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(directory)),
            str(ROOT / "recmesh_client"),
        ],
        check=True,
    )
    return next(directory.iterdir())
