"""Bundles from afar as local files that servers can map.

`<root>/files/<sha256>` holds each file once; `<root>/bundles/<hash>/<version>/` holds a bundle as
hard links to them (copies where the file system has none). Every file comes to its place by a
rename, so several processes may fill the cache at once, and what one has mapped is never written
again: a damaged file is replaced, not mended.
"""

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meshkit.bundles.errors import BundleError
from meshkit.bundles.manifest import MANIFEST, FileEntry, Manifest, verify_file
from meshkit.bundles.staging import PREFIX, sweep
from meshkit.bundles.store import Bundle

DIRECTORY = "RECMESH_BUNDLE_CACHE"
KEPT_BUNDLES = 8
"""Bundles that stay in the cache, counted by when they were last opened."""
UNUSED_AFTER_S = 3600.0
"""What was opened later than this stays as well: some process may be about to map it."""

Fetch = Callable[[str, Path], None]
"""Download the bundle's file of that name to that path."""


@dataclass(frozen=True, slots=True)
class BundleCache:
    """Local copies of bundles, in the directory `root`."""

    root: Path

    @classmethod
    def from_environment(cls) -> "BundleCache":
        """Return the cache at `RECMESH_BUNDLE_CACHE`, or this user's own in the temp directory.

        Raises BundleError when that cannot be written, or can be by others.
        """
        default = Path(tempfile.gettempdir()) / f"recmesh-bundles-{os.getuid()}"
        root = Path(os.environ.get(DIRECTORY) or default)
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = root.lstat()
        except OSError as exc:
            raise BundleError(f"{root} cannot be the bundle cache: {exc}") from exc
        # In a shared temp directory somebody else could have made it, to swap files later.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise BundleError(
                f"{root} cannot be the bundle cache: it must be a directory that this user owns "
                f"and no other can write; {DIRECTORY} names another"
            )
        return cls(root)

    def fill(self, content: bytes, manifest: Manifest, fetch: Fetch) -> Bundle:
        """Return the bundle of the manifest `content`, verified; `fetch` gets what is not here.

        Raises BundleError when a fetched file is not as the manifest says, and what `fetch` raises.
        """
        try:
            directory = self._make(content, manifest)
            for name, entry in manifest.files.items():
                if not _is_sound(directory / name, entry):
                    self._link(self._file(name, entry, fetch), directory / name)
            os.utime(directory)
            self._shrink(spared=directory)
        except OSError as exc:
            raise BundleError(f"{self.root} cannot hold {manifest.version}: {exc}") from exc
        return Bundle(directory, manifest)

    def adopt(self, staging: Path, content: bytes, manifest: Manifest) -> Bundle:
        """Return the bundle in `staging`, whose files move into the cache."""

        def take(name: str, path: Path) -> None:
            (staging / name).replace(path)

        return self.fill(content, manifest, take)

    def _make(self, content: bytes, manifest: Manifest) -> Path:
        """Return the bundle's directory, with the manifest in it and nothing that is not in it."""
        # Two stores may use the same version for different content.
        parent = self.root / "bundles" / hashlib.sha256(content).hexdigest()[:32]
        directory = parent / manifest.version
        directory.mkdir(parents=True, exist_ok=True)
        scratch = self._scratch()
        scratch.write_bytes(content)
        scratch.replace(directory / MANIFEST)
        for path in directory.iterdir():
            if path.name not in manifest.files and path.name != MANIFEST:
                path.unlink()
        return directory

    def _file(self, name: str, entry: FileEntry, fetch: Fetch) -> Path:
        """Return the cache's file of that content, fetched unless it is here and sound."""
        file = self.root / "files" / entry.sha256
        if not _is_sound(file, entry):
            scratch = self._scratch()
            try:
                fetch(name, scratch)
                verify_fetched(name, scratch, entry)
                scratch.chmod(0o444)
                file.parent.mkdir(exist_ok=True)
                scratch.replace(file)
            finally:
                scratch.unlink(missing_ok=True)
        return file

    def _link(self, file: Path, place: Path) -> None:
        scratch = self._scratch()
        scratch.unlink()
        try:
            scratch.hardlink_to(file)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copy(file, scratch)
        scratch.replace(place)
        # A rename onto another link to the same file does nothing, and leaves both.
        scratch.unlink(missing_ok=True)

    def _scratch(self) -> Path:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=self.root)
        os.close(descriptor)
        return Path(name)

    def _shrink(self, *, spared: Path) -> None:
        """Forget bundles that nobody opened lately, and files that no bundle has."""
        old_s = time.time() - UNUSED_AFTER_S
        bundles = sorted(
            (path for path in self.root.glob("bundles/*/*") if path != spared),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for path in bundles[KEPT_BUNDLES - 1 :]:
            if path.stat().st_mtime < old_s:
                shutil.rmtree(path.parent, ignore_errors=True)
        for file in self.root.glob("files/*"):
            with suppress(FileNotFoundError):  # another process shrinks as well
                found = file.stat()
                if found.st_nlink == 1 and found.st_ctime < old_s:
                    file.unlink()
        sweep(self.root)


def verify_fetched(name: str, path: Path, entry: FileEntry) -> None:
    """Raise BundleError naming `name` unless what was fetched to `path` is as in the manifest."""
    try:
        verify_file(path, entry)
    except BundleError as exc:
        fault = str(exc).removeprefix(f"{path} ")
        raise BundleError(f"{name} {fault}") from exc


def _is_sound(path: Path, entry: FileEntry) -> bool:
    try:
        verify_file(path, entry)
    except BundleError:
        return False
    return True
