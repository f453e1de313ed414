"""Every drill of `meshctl drill`, small: states and counts hold, whatever the machine's speed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshctl.drills.run import SCENARIOS

LIMIT_S = 600.0

pytestmark = [pytest.mark.load, pytest.mark.timeout(LIMIT_S + 60)]


@pytest.fixture(scope="module")
def found(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the drills found, by drill; all run at once, so that they share meshes."""
    directory = tmp_path_factory.mktemp("drills")
    report_path = directory / "found.json"
    options = ("--bundles", str(world / "bundles"), "--json", str(report_path))
    ended = subprocess.run(
        [sys.executable, "-m", "meshctl.app", "drill", "--small", *options],
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert report_path.exists(), ended.stderr
    print(ended.stderr)  # how far each drill came, and what the supervisor said
    report = json.loads(report_path.read_text())
    by_drill: dict[str, list[dict[str, Any]]] = {scenario.name: [] for scenario in SCENARIOS}
    for finding in report["findings"]:
        by_drill[finding["drill"]].append(finding)
    return by_drill


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_the_mesh_keeps_its_promises_in_the_drill(
    name: str, found: dict[str, list[dict[str, Any]]]
) -> None:
    assert found[name]
    assert [finding for finding in found[name] if finding["is_failure"]] == []
