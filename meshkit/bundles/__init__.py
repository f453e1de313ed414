"""Bundles: immutable, versioned directories of files behind one atomic pointer."""

from pathlib import Path

from meshkit.bundles.directory_store import (
    FORMAT_VERSION,
    MANIFEST,
    POINTER,
    Bundle,
    BundleError,
    DirectoryStore,
    FileEntry,
    Manifest,
    readable,
)
from meshkit.bundles.store import BundleStore

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
    "open_store",
    "readable",
]


def open_store(location: str | Path) -> BundleStore:
    """Return the store at `location`, a directory."""
    return DirectoryStore(Path(location))
