"""The manifest: what a bundle says of itself, and checking that its files are just that.

`manifest.schema.json` beside this file says the same as JSON Schema; the tests hold both to the
same examples.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from meshkit.bundles.errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
"""A manifest of 40 files and features takes 20 KB; reading a wrong file must not take memory."""
NOT_CONTENT = frozenset({"report.json"})
"""Files left out of the content hash: reports hold timings."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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


def is_plain_name(name: object) -> bool:
    """Say whether `name` may name a version or a file: no path, not hidden, 128 characters."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the bundle in `directory`. Raises BundleError."""
    file = directory / MANIFEST
    try:
        if file.is_symlink() or directory.is_symlink():
            raise BundleError(f"{file} is a symbolic link or in one; bundles hold plain files")
        with file.open("rb") as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as exc:
        raise BundleError(
            f"{file} does not exist; is {directory.name!r} a published version?"
        ) from exc
    except OSError as exc:
        raise BundleError(f"{file} is not a manifest: {exc}") from exc
    return parse_manifest(content, str(file))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return the manifest that `content` holds; `where` names it in the BundleError."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where} is not a manifest: more than {MAX_MANIFEST_BYTES} bytes")
    try:
        fields = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{where} is not a manifest: {exc}") from exc
    if not isinstance(fields, dict):
        raise BundleError(f"{where} is not a manifest: it holds no object")
    major = fields.get("format_version")
    if type(major) is int and major != FORMAT_VERSION:
        raise BundleError(f"{where} has format {major!r}; this program reads {FORMAT_VERSION}")
    fault = _fault_of(fields)
    if fault:
        raise BundleError(f"{where} is not a manifest: {fault}")
    entries = fields.pop("files")
    for name in entries:
        if not is_plain_name(name) or name == MANIFEST:
            raise BundleError(f"{where} names {name[:80]!r}, which is not a plain file name")
    return Manifest(**fields, files={name: FileEntry(**entries[name]) for name in entries})


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as the JSON that `parse_manifest` reads."""
    fields = {
        **{name: getattr(manifest, name) for name in Manifest.__slots__},
        "files": {name: asdict(entry) for name, entry in manifest.files.items()},
    }
    return json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n"


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Raise BundleError unless the files are those of the manifest, plain, of its sizes and hashes.

    A file that the manifest does not name is a fault too: a reader would open it unverified.
    """
    for name, entry in manifest.files.items():
        verify_file(directory / name, entry)
    unnamed = {path.name for path in directory.iterdir()} - {*manifest.files, MANIFEST}
    if unnamed:
        raise BundleError(f"{directory / min(unnamed)} is not named in {MANIFEST}")


def verify_file(file: Path, entry: FileEntry) -> None:
    """Raise BundleError unless `file` is a plain file of that size and hash."""
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{file} is missing or not a regular file")
    size = file.stat().st_size
    if size != entry.size:
        raise BundleError(f"{file} has {size} bytes; the manifest says {entry.size}")
    if sha256_of(file) != entry.sha256:
        raise BundleError(f"{file} is not what was published: its SHA-256 differs")


def entries_of(directory: Path) -> dict[str, FileEntry]:
    """Return what a manifest says of the files in `directory`, by name.

    Raises BundleError for what is no plain file or has no plain name.
    """
    entries = {}
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} is no regular file: a bundle holds nothing else")
        if not is_plain_name(path.name) or path.name == MANIFEST:
            raise BundleError(f"{path} cannot be in a bundle by this name")
        entries[path.name] = FileEntry(path.stat().st_size, sha256_of(path))
    return entries


def content_sha256(files: Mapping[str, FileEntry], facts: Mapping[str, Any]) -> str:
    """Return the hash over all content, names included; reports are none."""
    content = {name: entry.sha256 for name, entry in files.items() if name not in NOT_CONTENT}
    text = json.dumps({"files": content, "facts": facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _fault_of(fields: Mapping[str, Any]) -> str:
    """Return what is wrong with the fields of a manifest; empty when nothing is."""
    known = set(Manifest.__slots__)
    if set(fields) != known:
        missing, unknown = sorted(known - set(fields)), sorted(set(fields) - known)
        return f"it lacks {missing}" if missing else f"it has unknown fields {unknown}"
    parent, files = fields["parent"], fields["files"]
    claims = {
        "format_version must be an integer": type(fields["format_version"]) is int,
        "version must be a plain name": is_plain_name(fields["version"]),
        "created_at must be an ISO 8601 time with its zone": _is_time(fields["created_at"]),
        "content_sha256 must be 64 hexadecimal digits": _is_sha256(fields["content_sha256"]),
        "parent must be null or a plain name": parent is None or is_plain_name(parent),
        "files must be an object": isinstance(files, dict),
        "facts must be an object": isinstance(fields["facts"], dict),
    }
    faults = [claim for claim, holds in claims.items() if not holds]
    return faults[0] if faults else _fault_of_entries(files)


def _fault_of_entries(files: Mapping[str, Any]) -> str:
    for name, entry in files.items():
        if not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            return f"files[{name[:80]!r}] must have size and sha256 and nothing else"
        size = entry["size"]
        if type(size) is not int or size < 0:
            return f"files[{name[:80]!r}].size must be an integer from 0"
        if not _is_sha256(entry["sha256"]):
            return f"files[{name[:80]!r}].sha256 must be 64 hexadecimal digits"
    return ""


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def _is_time(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
