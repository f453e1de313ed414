"""Bundles: immutable, versioned directories of files behind one atomic pointer."""

import re
from pathlib import Path

from meshkit.bundles.directory_store import DirectoryStore
from meshkit.bundles.errors import BundleError
from meshkit.bundles.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    read_manifest,
    verify_files,
)
from meshkit.bundles.store import POINTER, Bundle, BundleStore, Pointer, readable

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "POINTER",
    "Bundle",
    "BundleError",
    "BundleStore",
    "DirectoryStore",
    "FileEntry",
    "Manifest",
    "Pointer",
    "open_store",
    "read_manifest",
    "readable",
    "verify_files",
]


def open_store(location: str | Path) -> BundleStore:
    """Return the store at `location`: `s3://bucket/prefix`, or a directory.

    Raises BundleError for a location that cannot be one; nothing is read yet.
    """
    # A `Path` of such a URL has lost a slash.
    if match := re.match(r"s3:/{1,2}(?=[^/])", str(location)):
        from meshkit.bundles.s3_store import (  # noqa: PLC0415 - boto3 costs 30 MB and 0.3 s
            open_s3_store,
        )

        return open_s3_store(str(location)[match.end() :])
    return DirectoryStore(Path(location))
