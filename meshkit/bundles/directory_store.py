"""Bundles in a local directory, or one that several machines mount.

`<root>/<version>/` holds the files and `manifest.json`; `<root>/CURRENT` holds the version to
serve and the one that it replaced. A version is written beside its place, synced, verified and
renamed; then the pointer is moved the same way. Nothing that a server may have mapped is ever
overwritten. Who moves the pointer or deletes holds a lock (`.lock`) that ends with its process;
readers need none.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from meshkit.bundles.errors import BundleError
from meshkit.bundles.faults import reached
from meshkit.bundles.manifest import MANIFEST, Manifest, is_plain_name, read_manifest, verify_files
from meshkit.bundles.staging import PREFIX, stage, staging_directory, sweep, sync
from meshkit.bundles.store import (
    MAX_POINTER_BYTES,
    POINTER,
    Bundle,
    Pointer,
    Write,
    check_version,
    deletable,
    moved_pointer,
    nothing_published,
)

LOCK = ".lock"
LOCK_WAIT_S = 10.0
"""A lock is held for milliseconds; whoever waits longer waits for a stopped process."""
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """A `BundleStore` in the directory `root`."""

    root: Path

    @property
    def location(self) -> str:
        """The directory."""
        return str(self.root)

    def current(self) -> str:
        """Return the version to serve."""
        return self.pointer().version

    def pointer(self) -> Pointer:
        """Return the version to serve and the one before."""
        pointer = self._pointer_if_any()
        if pointer is None:
            raise nothing_published(self.location)
        return pointer

    def versions(self) -> list[str]:
        """Return every published version, oldest first."""
        found = (path for path in self.root.glob(f"*/{MANIFEST}") if path.is_file())
        return sorted(path.parent.name for path in found if is_plain_name(path.parent.name))

    def manifest(self, version: str) -> Manifest:
        """Return what `version` says of itself; its files are not looked at."""
        path = self.root / check_version(version)
        manifest = read_manifest(path)
        if manifest.version != version:
            raise BundleError(f"{path / MANIFEST} says it is version {manifest.version!r}")
        return manifest

    def open(self, version: str | None = None) -> Bundle:
        """Return `version` (None: the current one) with every size and hash verified."""
        manifest = self.manifest(self.current() if version is None else version)
        path = self.root / manifest.version
        verify_files(path, manifest)
        return Bundle(path, manifest)

    def publish(
        self, write: Write, facts: Mapping[str, Any], *, now: datetime, promote: bool = True
    ) -> Bundle:
        """Write a bundle and, unless `promote` is false, make it current."""
        with staging_directory(self.root) as staging:
            pointer = self._pointer_if_any()
            manifest = stage(
                staging,
                write,
                facts,
                now=now,
                parent=pointer.version if pointer else None,
                name=self._free_version,
            )
            self._install(staging, manifest)
        reached("installed")
        if promote:
            self.promote(manifest.version)
        return Bundle(self.root / manifest.version, manifest)

    def promote(self, version: str, *, expected: str | None = None) -> None:
        """Move the pointer to `version`, if it is at `expected` (None: anywhere)."""
        with self._locked():
            pointer = self._pointer_if_any()
            found = pointer.version if pointer else None
            if expected is not None and found != expected:
                raise moved_pointer(self.location, version, found)
            self._check_published(version)
            if found != version:
                self._point(Pointer(version, replaced=found))

    def rollback(self) -> str:
        """Serve what the pointer replaced, and return it."""
        with self._locked():
            pointer = self.pointer()
            if pointer.replaced is None:
                raise BundleError(f"{self.location}: {pointer.version} replaced nothing")
            self._check_published(pointer.replaced)
            self._point(Pointer(pointer.replaced, replaced=pointer.version))
        return pointer.replaced

    def gc(self, keep: int, protect: Collection[str] = ()) -> list[str]:
        """Delete all but the newest `keep` versions, and return what was deleted."""
        with self._locked():
            doomed = deletable(self.versions(), self._pointer_if_any(), keep, protect)
            # Gone in one step each: a version that can be listed is whole.
            away = [self._move_away(version) for version in doomed]
        for path in away:
            shutil.rmtree(path)
        sweep(self.root)
        return doomed

    def _pointer_if_any(self) -> Pointer | None:
        file = self.root / POINTER
        try:
            with file.open("rb") as stream:
                content = stream.read(MAX_POINTER_BYTES)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise BundleError(f"{file} cannot be read: {exc}") from exc
        return Pointer.parse(content, str(file))

    def _check_published(self, version: str) -> None:
        if not (self.root / check_version(version) / MANIFEST).is_file():
            raise BundleError(f"{self.location} has no version {version!r}")

    def _free_version(self, wished: str) -> str:
        """Return `wished`, or with a number where the same content was published this second."""
        number, version = 2, wished
        while (self.root / version).exists():
            version, number = f"{wished}-{number}", number + 1
        return version

    def _install(self, staging: Path, manifest: Manifest) -> None:
        try:
            staging.rename(self.root / manifest.version)
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise BundleError(
                    f"{self.location}: another publisher made {manifest.version} at the same "
                    "time; publish again"
                ) from exc
            raise BundleError(f"{self.root} cannot hold bundles: {exc}") from exc
        sync(self.root)

    def _point(self, pointer: Pointer) -> None:
        # A name that `sweep` knows: whoever is killed here leaves it.
        staging = self.root / f"{PREFIX}{POINTER}-{os.getpid()}"
        staging.write_text(pointer.to_text())
        sync(staging)
        reached("pointing")
        staging.replace(self.root / POINTER)
        sync(self.root)
        reached("pointed")

    def _move_away(self, version: str) -> Path:
        away = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.root))
        (self.root / version).rename(away / version)
        return away

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError as exc:
            raise nothing_published(self.location) from exc
        except OSError as exc:
            raise BundleError(f"{self.root / LOCK} cannot be opened: {exc}") from exc
        try:
            self._wait_for_lock(descriptor)
            yield
        except OSError as exc:
            raise BundleError(f"{self.location} cannot be changed: {exc}") from exc
        finally:
            os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        ends_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if time.monotonic() > ends_s:
                    raise BundleError(
                        f"{self.root / LOCK} is held by another process for more than "
                        f"{LOCK_WAIT_S:g} s"
                    ) from exc
                time.sleep(_POLL_S)
            else:
                return
