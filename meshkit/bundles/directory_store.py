"""Bundles: immutable, versioned directories of files behind one atomic pointer.

`<root>/<version>/` holds the files and `manifest.json`; `<root>/CURRENT` holds the version to
serve. A version is written beside its place, synced, verified and renamed; then the pointer is
moved the same way. Nothing that a server may have mapped is ever overwritten.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
POINTER = "CURRENT"
HASH_BLOCK_BYTES = 1 << 20
NOT_CONTENT = frozenset({"report.json"})
"""Files left out of the content hash: reports hold timings."""


class BundleError(Exception):
    """A bundle that cannot be used; the message names the file, the fault and the mend."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest says of one file."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself."""

    format_version: int
    version: str
    created_at: str
    content_sha256: str
    """Hash over names and hashes of all content: the same input gives the same one."""
    parent: str | None
    """Version that was current when this one was published."""
    files: Mapping[str, FileEntry]
    facts: Mapping[str, Any]
    """What the publisher adds: a JSON object that this module does not read."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    path: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        """Name of this bundle, unique in its store."""
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """Bundles in a local directory."""

    root: Path

    def current(self) -> str:
        """Return the version to serve. Raises BundleError when nothing is published."""
        try:
            version = (self.root / POINTER).read_text().strip()
        except FileNotFoundError as exc:
            raise BundleError(
                f"{self.root} has no published bundle; `meshctl train` makes one"
            ) from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise BundleError(f"{self.root / POINTER} cannot be read: {exc}") from exc
        if not _is_plain_name(version):
            raise BundleError(f"{self.root / POINTER} does not hold a version: {version[:80]!r}")
        return version

    def open(self, version: str | None = None) -> Bundle:
        """Return `version` (None: the current one), verified. Raises BundleError."""
        name = version or self.current()
        if not _is_plain_name(name):
            raise BundleError(f"{name[:80]!r} is not a version")
        path = self.root / name
        manifest = _read_manifest(path)
        if manifest.version != name:
            raise BundleError(f"{path / MANIFEST} says it is version {manifest.version!r}")
        _verify_files(path, manifest)
        return Bundle(path, manifest)

    def publish(
        self, write: Callable[[Path], None], facts: Mapping[str, Any], *, now: datetime
    ) -> Bundle:
        """Write a bundle and make it current.

        `write` fills the directory it is given with plain files. Whatever fails, the store reads
        as before. Raises BundleError when the store cannot be written, and what `write` raises.
        """
        staging = self._stage()
        try:
            write(staging)
            manifest = self._describe(staging, facts, now)
            _write_manifest(staging, manifest)
            _sync_tree(staging)
            _verify_files(staging, manifest)
            staging.chmod(0o755)  # mkdtemp makes it private; servers may run as someone else
            staging.rename(self.root / manifest.version)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync(self.root)
        self._point_at(manifest.version)
        path = self.root / manifest.version
        return Bundle(path, _read_manifest(path))  # as `open` will: JSON has no tuples

    def _stage(self) -> Path:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=".staging-", dir=self.root))
        except OSError as exc:
            raise BundleError(f"{self.root} cannot hold bundles: {exc}") from exc

    def _describe(self, staging: Path, facts: Mapping[str, Any], now: datetime) -> Manifest:
        files = {
            path.name: FileEntry(path.stat().st_size, _sha256(path))
            for path in sorted(staging.iterdir())
        }
        content = _content_sha256(files, facts)
        return Manifest(
            format_version=FORMAT_VERSION,
            version=self._free_version(f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content[:12]}"),
            created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
            content_sha256=content,
            parent=self.current() if (self.root / POINTER).exists() else None,
            files=files,
            facts=facts,
        )

    def _free_version(self, name: str) -> str:
        """Return `name`, or with a number where the same content was published this second."""
        number, version = 2, name
        while (self.root / version).exists():
            version, number = f"{name}-{number}", number + 1
        return version

    def _point_at(self, version: str) -> None:
        staging = self.root / f".{POINTER}-{os.getpid()}"
        staging.write_text(version + "\n")
        _sync(staging)
        staging.replace(self.root / POINTER)
        _sync(self.root)


@contextmanager
def readable(bundle: Bundle) -> Iterator[None]:
    """Turn what goes wrong while a bundle's files are opened into a BundleError that names it."""
    try:
        yield
    except (OSError, ValueError) as exc:
        raise BundleError(f"{bundle.path} cannot be served: {exc}") from exc


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        fields = json.loads(file.read_text())
        if fields["format_version"] != FORMAT_VERSION:
            raise BundleError(
                f"{file} has format {fields['format_version']!r}; this program reads "
                f"{FORMAT_VERSION}"
            )
        files = {name: FileEntry(**entry) for name, entry in fields.pop("files").items()}
        if not isinstance(fields["facts"], dict):
            raise TypeError("its facts are no object")  # noqa: TRY301 - the message names the file
        return Manifest(**fields, files=files)
    except FileNotFoundError as exc:
        raise BundleError(f"{file} does not exist; is {path.name!r} a published version?") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(f"{file} is not a manifest: {exc}") from exc


def _write_manifest(path: Path, manifest: Manifest) -> None:
    fields = {
        **{name: getattr(manifest, name) for name in Manifest.__slots__},
        "files": {name: asdict(entry) for name, entry in manifest.files.items()},
    }
    (path / MANIFEST).write_text(
        json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n"
    )


def _verify_files(path: Path, manifest: Manifest) -> None:
    """Raise BundleError unless every file is there, plain, and as the manifest says."""
    for name, entry in manifest.files.items():
        file = path / name
        if not _is_plain_name(name):
            raise BundleError(f"{path / MANIFEST} names {name!r}, which is not a plain file name")
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file} is missing or not a regular file")
        size = file.stat().st_size
        if size != entry.size:
            raise BundleError(f"{file} has {size} bytes; the manifest says {entry.size}")
        if _sha256(file) != entry.sha256:
            raise BundleError(f"{file} is not what was published: its SHA-256 differs")


def _content_sha256(files: Mapping[str, FileEntry], facts: Mapping[str, Any]) -> str:
    content = {name: entry.sha256 for name, entry in files.items() if name not in NOT_CONTENT}
    text = json.dumps({"files": content, "facts": facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_plain_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sync_tree(directory: Path) -> None:
    for path in directory.iterdir():
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
