"""Bundle stores to test: a directory, and S3 at a real API server over HTTP."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshkit.bundles import Bundle, BundleStore, DirectoryStore
from meshkit.bundles.bundle_cache import BundleCache
from meshkit.bundles.s3_store import S3Store

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
FACTS: Mapping[str, Any] = {"items": 3, "order": "time"}
PART_BYTES = 5 << 20
"""S3's smallest part."""


def write_files(files: Mapping[str, bytes]) -> Callable[[Path], None]:
    """Return a writer of these files."""

    def write(directory: Path) -> None:
        for name, content in files.items():
            (directory / name).write_bytes(content)

    return write


def publish(
    store: BundleStore, content: bytes = b"1", *, now: datetime = NOW, promote: bool = True
) -> Bundle:
    """Publish two files, one with `content`."""
    files = {"a.npy": content, "report.json": b"{}"}
    return store.publish(write_files(files), FACTS, now=now, promote=promote)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket of its own at the server."""

    client: Any
    bucket: str

    @classmethod
    def make(cls, client: Any) -> "S3Place":
        bucket = f"bundles-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        return cls(client, bucket)

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"here/{name}", Body=content)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"here/{name}")

    def names(self) -> list[str]:
        """Return what is stored, relative to the store."""
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return sorted(each["Key"].removeprefix("here/") for each in listed)


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A directory."""

    root: Path

    def put(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)

    def delete(self, name: str) -> None:
        (self.root / name).unlink()

    def names(self) -> list[str]:
        """Return what is stored, relative to the store; the lock is no part of it."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.root)) for path in files if path.name != ".lock")


Place = S3Place | DirectoryPlace


def store_at(place: Place, cache: Path) -> BundleStore:
    """Return a store at `place`, with pages and parts small enough for several of them."""
    if isinstance(place, DirectoryPlace):
        return DirectoryStore(place.root)
    cache.mkdir(mode=0o700, exist_ok=True)
    return S3Store(
        place.client,
        place.bucket,
        "here/",
        BundleCache(cache),
        page_objects=2,
        part_bytes=PART_BYTES,
    )
