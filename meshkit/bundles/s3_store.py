"""Bundles in S3, or anything that speaks its API and has conditional writes.

`<prefix>/<version>/` holds the files, and `manifest.json` last: a version without one does not
exist. `<prefix>/CURRENT` is the pointer. A new object is written where none is (`If-None-Match`),
and the pointer where it is as it was read (`If-Match`), so two publishers never mix. What is read
comes through a local cache.
"""

import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from meshkit.bundles.bundle_cache import BundleCache
from meshkit.bundles.errors import BundleError
from meshkit.bundles.faults import reached
from meshkit.bundles.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    is_plain_name,
    parse_manifest,
)
from meshkit.bundles.s3_client import (
    ENDPOINT,
    is_missing,
    lost_condition,
    s3_client,
    translated_errors,
)
from meshkit.bundles.staging import stage, staging_directory
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

CLAIM = ".claim"
"""Object that reserves a version for one publisher while it uploads."""
ABANDONED_AFTER = timedelta(days=1)
"""Age of an upload without manifest from which it is swept: the longest that one may take."""
PAGE_OBJECTS = 1000
"""S3's own limit for one page of a listing, and for one deletion."""
PART_BYTES = 16 << 20
"""Files from this size go up and come down in parts of it, several at once."""


@dataclass(frozen=True, slots=True)
class S3Store:
    """A `BundleStore` under `prefix` (empty, or ending with a slash) of a bucket."""

    client: Any  # boto3 types its clients with extra stubs only
    bucket: str
    prefix: str
    cache: BundleCache
    page_objects: int = PAGE_OBJECTS
    part_bytes: int = PART_BYTES
    abandoned_after: timedelta = ABANDONED_AFTER

    @property
    def location(self) -> str:
        """The URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def current(self) -> str:
        """Return the version to serve."""
        return self.pointer().version

    def pointer(self) -> Pointer:
        """Return the version to serve and the one before."""
        pointer, _ = self._pointer_if_any()
        if pointer is None:
            raise nothing_published(self.location)
        return pointer

    def versions(self) -> list[str]:
        """Return every published version, oldest first."""
        return sorted(name for name, keys in self._by_version().items() if MANIFEST in keys)

    def manifest(self, version: str) -> Manifest:
        """Return what `version` says of itself; its files are not looked at."""
        return self._read_manifest(version)[1]

    def open(self, version: str | None = None) -> Bundle:
        """Return `version` (None: the current one) from the cache, downloaded where it is not."""
        name = self.current() if version is None else version
        content, manifest = self._read_manifest(name)
        try:
            return self.cache.fill(content, manifest, partial(self._download, name))
        except BundleError as exc:
            raise BundleError(f"{self.location}/{name}: {exc}") from exc

    def publish(
        self, write: Write, facts: Mapping[str, Any], *, now: datetime, promote: bool = True
    ) -> Bundle:
        """Write a bundle and, unless `promote` is false, make it current."""
        pointer, _ = self._pointer_if_any()
        self._sweep()
        with staging_directory(self.cache.root) as staging:
            manifest = stage(
                staging,
                write,
                facts,
                now=now,
                parent=pointer.version if pointer else None,
                name=self._claim,
            )
            content = (staging / MANIFEST).read_bytes()
            self._upload(staging, manifest, content)
            bundle = self.cache.adopt(staging, content, manifest)
        reached("installed")
        if promote:
            self.promote(manifest.version)
        return bundle

    def promote(self, version: str, *, expected: str | None = None) -> None:
        """Move the pointer to `version`, if it is at `expected` (None: anywhere)."""
        pointer, etag = self._pointer_if_any()
        found = pointer.version if pointer else None
        if expected is not None and found != expected:
            raise moved_pointer(self.location, version, found)
        self._check_published(version)
        if found != version:
            self._point(Pointer(version, replaced=found), etag)

    def rollback(self) -> str:
        """Serve what the pointer replaced, and return it."""
        pointer, etag = self._pointer_if_any()
        if pointer is None:
            raise nothing_published(self.location)
        if pointer.replaced is None:
            raise BundleError(f"{self.location}: {pointer.version} replaced nothing")
        self._check_published(pointer.replaced)
        self._point(Pointer(pointer.replaced, replaced=pointer.version), etag)
        return pointer.replaced

    def gc(self, keep: int, protect: Collection[str] = ()) -> list[str]:
        """Delete all but the newest `keep` versions, and return what was deleted."""
        pointer, _ = self._pointer_if_any()
        doomed = deletable(self.versions(), pointer, keep, protect)
        for version in doomed:
            self._delete_version(version)
        self._sweep()
        return doomed

    def _read_manifest(self, version: str) -> tuple[bytes, Manifest]:
        file = f"{check_version(version)}/{MANIFEST}"
        where = f"{self.location}/{file}"
        found = self._get(file, limit=MAX_MANIFEST_BYTES)
        if found is None:
            raise BundleError(f"{where} does not exist; is {version!r} a published version?")
        manifest = parse_manifest(found[0], where)
        if manifest.version != version:
            raise BundleError(f"{where} says it is version {manifest.version!r}")
        return found[0], manifest

    def _pointer_if_any(self) -> tuple[Pointer | None, str | None]:
        """Return the pointer and the ETag that it was read with."""
        found = self._get(POINTER, limit=MAX_POINTER_BYTES)
        if found is None:
            return None, None
        content, etag = found
        return Pointer.parse(content, f"{self.location}/{POINTER}"), etag

    def _point(self, pointer: Pointer, etag: str | None) -> None:
        reached("pointing")
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        if not self._put(POINTER, pointer.to_text().encode(), condition):
            found, _ = self._pointer_if_any()
            raise moved_pointer(self.location, pointer.version, found.version if found else None)
        reached("pointed")

    def _check_published(self, version: str) -> None:
        if self._get(f"{check_version(version)}/{MANIFEST}", limit=1) is None:
            raise BundleError(f"{self.location} has no version {version!r}")

    def _claim(self, wished: str) -> str:
        """Return `wished`, or with a number where it is taken, reserved for this publisher."""
        owner = uuid.uuid4().bytes
        number, version = 2, wished
        while not self._put(f"{version}/{CLAIM}", owner, {"IfNoneMatch": "*"}):
            version, number = f"{wished}-{number}", number + 1
        return version

    def _upload(self, staging: Path, manifest: Manifest, content: bytes) -> None:
        for name in manifest.files:
            key = self._key(f"{manifest.version}/{name}")
            with translated_errors(f"{self.location}: uploading {name}"):
                self.client.upload_file(
                    str(staging / name), self.bucket, key, Config=self._transfer()
                )
            reached("sending")
        reached("sent")
        if not self._put(f"{manifest.version}/{MANIFEST}", content, {"IfNoneMatch": "*"}):
            raise BundleError(f"{self.location}: another publisher made {manifest.version}")

    def _download(self, version: str, name: str, path: Path) -> None:
        key = self._key(f"{version}/{name}")
        try:
            with translated_errors(f"downloading {name}"):
                self.client.download_file(self.bucket, key, str(path), Config=self._transfer())
        except BundleError as exc:
            if isinstance(exc.__cause__, ClientError) and is_missing(exc.__cause__):
                raise BundleError(f"{name} is missing") from exc
            raise

    def _transfer(self) -> TransferConfig:
        return TransferConfig(
            multipart_threshold=self.part_bytes,
            multipart_chunksize=self.part_bytes,
            max_concurrency=4,
        )

    def _get(self, name: str, *, limit: int) -> tuple[bytes, str] | None:
        """Return up to `limit` + 1 bytes of an object and its ETag; None when there is none."""
        with translated_errors(f"{self.location}: reading {name}"):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(name))
            except ClientError as exc:
                if is_missing(exc):
                    return None
                raise
            with answer["Body"] as body:
                return body.read(limit + 1), answer["ETag"]

    def _put(self, name: str, content: bytes, condition: Mapping[str, str]) -> bool:
        """Write an object and say whether it is there now: not when `condition` did not hold."""
        with translated_errors(f"{self.location}: writing {name}"):
            try:
                self.client.put_object(
                    Bucket=self.bucket, Key=self._key(name), Body=content, **condition
                )
            except ClientError as exc:
                if lost_condition(exc):
                    return self._holds(name, content)
                raise
        return True

    def _holds(self, name: str, content: bytes) -> bool:
        # The answer to a write that succeeded may be lost, and its repetition then refused.
        found = self._get(name, limit=len(content))
        return found is not None and found[0] == content

    def _by_version(self) -> dict[str, dict[str, datetime]]:
        """Return for every version, unfinished ones too, its objects and when each was written."""
        found: dict[str, dict[str, datetime]] = {}
        for key, written in self._objects(self.prefix):
            version, _, name = key.removeprefix(self.prefix).partition("/")
            if name and is_plain_name(version):
                found.setdefault(version, {})[name] = written
        return found

    def _objects(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield key and time of every object, page by page."""
        with translated_errors(f"{self.location}: listing"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, PaginationConfig={"PageSize": self.page_objects}
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    yield each["Key"], each["LastModified"]

    def _delete_version(self, version: str) -> None:
        # The manifest first: without it the version does not exist, whatever is left of it.
        self._delete([self._key(f"{version}/{MANIFEST}")])
        self._delete([key for key, _ in self._objects(self._key(f"{version}/"))])

    def _delete(self, keys: list[str]) -> None:
        with translated_errors(f"{self.location}: deleting"):
            for start in range(0, len(keys), self.page_objects):
                page = [{"Key": key} for key in keys[start : start + self.page_objects]]
                answer = self.client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": page, "Quiet": True}
                )
                if errors := answer.get("Errors"):
                    raise BundleError(f"{self.location}: {errors[0]['Key']} stays: {errors[0]}")

    def _sweep(self) -> None:
        """Delete what killed publishers uploaded, parts of files too."""
        oldest = datetime.now(UTC) - self.abandoned_after
        for version, objects in self._by_version().items():
            if MANIFEST not in objects and max(objects.values()) < oldest:
                self._delete([self._key(f"{version}/{name}") for name in objects])
        with translated_errors(f"{self.location}: listing uploads"):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self.prefix
            )
            for upload in (each for page in pages for each in page.get("Uploads", ())):
                if upload["Initiated"] < oldest:
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _key(self, name: str) -> str:
        return f"{self.prefix}{name}"


def open_s3_store(place: str) -> S3Store:
    """Return the store at `place` (`bucket/prefix`); raises BundleError."""
    bucket, _, prefix = place.partition("/")
    prefix = prefix.strip("/")
    client = s3_client(os.environ.get(ENDPOINT) or None)
    return S3Store(client, bucket, f"{prefix}/" if prefix else "", BundleCache.from_environment())
