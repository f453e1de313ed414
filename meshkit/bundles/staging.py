"""A bundle in the making: a directory beside its place, locked while its publisher lives."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshkit.bundles.errors import BundleError
from meshkit.bundles.faults import check_fault, reached
from meshkit.bundles.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    content_sha256,
    entries_of,
    manifest_text,
    read_manifest,
    verify_files,
)
from meshkit.bundles.store import Write

PREFIX = ".staging-"
STALE_AFTER_S = 600.0
"""Age from which what a killed publisher left is swept by the next one. A living publisher's
directory is locked and never swept, however old."""


@contextmanager
def staging_directory(root: Path) -> Iterator[Path]:
    """Make a staging directory in `root` and take away what is left of it in the end.

    Sweeps stale ones first. Raises BundleError when `root` cannot hold one.
    """
    check_fault()
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    except OSError as exc:
        raise BundleError(f"{root} cannot hold bundles: {exc}") from exc
    lock = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def stage(
    staging: Path,
    write: Write,
    facts: Mapping[str, Any],
    *,
    now: datetime,
    parent: str | None,
    name: Callable[[str], str],
) -> Manifest:
    """Have `write` fill `staging`, describe it in a manifest, sync, verify; return the manifest.

    `name` turns the wished-for version into one that is free.
    """
    reached("staged")
    write(staging)
    reached("written")
    files = entries_of(staging)
    content = content_sha256(files, facts)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        version=name(f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content[:12]}"),
        created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        content_sha256=content,
        parent=parent,
        files=files,
        facts=facts,
    )
    (staging / MANIFEST).write_text(manifest_text(manifest))
    reached("described")
    staging.chmod(0o755)  # mkdtemp makes it private; servers may run as someone else
    sync_tree(staging)
    read_back = read_manifest(staging)  # as `open` will: JSON has no tuples
    verify_files(staging, read_back)
    reached("verified")
    return read_back


def sweep(root: Path, stale_after_s: float = STALE_AFTER_S) -> None:
    """Delete what killed publishers left in `root` more than `stale_after_s` ago."""
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else swept it, or it is somebody else's
            if time.time() - path.stat().st_mtime > stale_after_s and not _is_locked(path):
                _delete(path)


def sync_tree(directory: Path) -> None:
    """Have the disk hold `directory` and the files in it."""
    for path in directory.iterdir():
        sync(path)
    sync(directory)


def sync(path: Path) -> None:
    """Have the disk hold a file, or the entries of a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
