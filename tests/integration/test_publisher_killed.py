"""A publisher killed at any step: the store reads as the old version or the new one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshctl.embedded_dynamodb import EmbeddedDynamodb
from meshkit.bundles import BundleError, BundleStore, open_store
from meshkit.bundles.faults import STEPS, UPLOAD_STEPS, VARIABLE
from meshkit.bundles.s3_client import s3_client
from meshkit.bundles.s3_store import S3Store
from meshkit.bundles.staging import PREFIX, STALE_AFTER_S

KILLED = -9
CASES = [
    (kind, step)
    for kind in ("directory", "s3")
    for step in STEPS
    if kind == "s3" or step not in UPLOAD_STEPS
]
WITH_NEW_VERSION = STEPS[STEPS.index("installed") :]


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with EmbeddedDynamodb(service="s3") as engine:
        yield engine.endpoint


@pytest.fixture
def location(
    kind: str,
    step: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    if kind == "directory":
        return str(tmp_path / "bundles")
    endpoint = request.getfixturevalue("s3_endpoint")
    monkeypatch.setenv("RECMESH_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("RECMESH_BUNDLE_CACHE", str(tmp_path / "cache"))
    s3_client(endpoint).create_bucket(Bucket=f"killed-at-{step}")
    return f"s3://killed-at-{step}/bundles"


def publish_in_child(
    location: str, number: int, step: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.bundle_publisher", location, str(number)],
        env={**os.environ, VARIABLE: step},
        capture_output=True,
        text=True,
        check=False,
    )


def content_of(store: BundleStore, version: str) -> set[int]:
    """Return the numbers that the version's file is made of."""
    return set((store.open(version).path / "a.npy").read_bytes())


def leftovers(store: BundleStore, tmp_path: Path) -> list[Path]:
    root = tmp_path / ("cache" if isinstance(store, S3Store) else "bundles")
    return list(root.glob(f"{PREFIX}*"))


def make_old(paths: list[Path]) -> None:
    then_s = time.time() - STALE_AFTER_S - 60
    for path in paths:
        os.utime(path, (then_s, then_s))


@pytest.mark.parametrize(("kind", "step"), CASES)
def test_a_publisher_killed_at_any_step_leaves_the_old_version_or_the_new_one(
    location: str, step: str, tmp_path: Path
) -> None:
    store = open_store(location)
    old = publish_in_child(location, 1).stdout.strip()

    killed = publish_in_child(location, 2, step)

    assert killed.returncode == KILLED, killed.stderr
    versions = store.versions()
    new = set(versions) - {old}
    assert len(new) == (1 if step in WITH_NEW_VERSION else 0)
    assert store.current() == (new.pop() if step == "pointed" else old)
    for version in versions:
        assert content_of(store, version) == ({1} if version == old else {2})

    left = leftovers(store, tmp_path)
    writes_pointer_beside = step == "pointing" and not isinstance(store, S3Store)
    assert bool(left) == (step not in WITH_NEW_VERSION or writes_pointer_beside)
    make_old(left)
    later = publish_in_child(location, 3)

    assert later.returncode == 0, later.stderr
    assert store.current() == later.stdout.strip()
    assert store.versions() == [*versions, store.current()]
    assert content_of(store, store.current()) == {3}
    assert not leftovers(store, tmp_path)


@pytest.mark.parametrize(("kind", "step"), [("directory", s) for s in ("written", "pointing")])
def test_the_first_publisher_killed_leaves_an_empty_store(location: str, step: str) -> None:
    assert publish_in_child(location, 1, step).returncode == KILLED

    with pytest.raises(BundleError, match="no published bundle"):
        open_store(location).open()

    version = publish_in_child(location, 1).stdout.strip()
    assert open_store(location).open().version == version


@pytest.mark.parametrize(("kind", "step"), [("directory", "written")])
def test_what_may_still_be_written_is_not_swept(location: str, step: str, tmp_path: Path) -> None:
    store = open_store(location)
    publish_in_child(location, 1, step)
    left = leftovers(store, tmp_path)

    def publish_another(directory: Path) -> None:
        make_old([directory])  # alive, however old: its publisher has it locked
        (directory / "a.npy").write_bytes(b"1")
        make_old([directory])
        assert publish_in_child(location, 2).returncode == 0

    store.publish(publish_another, {}, now=datetime.now(UTC) + timedelta(days=1))

    assert leftovers(store, tmp_path) == left != []
