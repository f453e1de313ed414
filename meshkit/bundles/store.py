"""The port: what every bundle store does, and the values that it speaks in."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from meshkit.bundles.errors import BundleError
from meshkit.bundles.manifest import Manifest, is_plain_name

POINTER = "CURRENT"
MAX_POINTER_BYTES = 1024

Write = Callable[[Path], None]
"""Fills the directory that it is given with plain files."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle in a local directory."""

    path: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        """Name of this bundle, unique in its store."""
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class Pointer:
    """What is served, and what was before: its text is a line each."""

    version: str
    replaced: str | None = None
    """What a rollback would serve; None when nothing was served before."""

    def to_text(self) -> str:
        """Return what `parse` reads."""
        return "".join(f"{name}\n" for name in (self.version, self.replaced) if name)

    @staticmethod
    def parse(content: bytes, where: str) -> "Pointer":
        """Return the pointer in `content`; `where` names it in the BundleError."""
        names = content.decode(errors="replace").removesuffix("\n").split("\n")
        if len(names) not in (1, 2) or not all(is_plain_name(name) for name in names):
            raise BundleError(f"{where} does not hold a version: {content[:80]!r}")
        return Pointer(*names)


class BundleStore(Protocol):
    """Immutable bundles behind one atomic pointer. Every method raises BundleError."""

    @property
    def location(self) -> str:
        """What `open_store` opens this store by."""
        ...

    def current(self) -> str:
        """Return the version to serve; an error when nothing is."""
        ...

    def pointer(self) -> Pointer:
        """Return the version to serve and the one before; an error when nothing is served."""
        ...

    def versions(self) -> list[str]:
        """Return every published version, oldest first; within a second by name."""
        ...

    def manifest(self, version: str) -> Manifest:
        """Return what `version` says of itself; its files are not looked at."""
        ...

    def open(self, version: str | None = None) -> Bundle:
        """Return `version` (None: the current one) with every size and hash verified."""
        ...

    def publish(
        self, write: Write, facts: Mapping[str, Any], *, now: datetime, promote: bool = True
    ) -> Bundle:
        """Write a bundle and, unless `promote` is false, make it current.

        Whatever fails, and wherever the process is killed, the store reads as the old version or
        the new one. Also raises what `write` raises.
        """
        ...

    def promote(self, version: str, *, expected: str | None = None) -> None:
        """Move the pointer to `version`; without effect when it is there.

        An error when the pointer is not at `expected` (None: anywhere), or moves meanwhile. The
        version must exist; whether it is sound is for the caller to find out first.
        """
        ...

    def rollback(self) -> str:
        """Serve what the pointer replaced, and return it; a second call goes forward again."""
        ...

    def gc(self, keep: int, protect: Collection[str] = ()) -> list[str]:
        """Delete all but the newest `keep` (from 1) versions, and return what was deleted.

        Never deletes the current version, the one it replaced, and those to `protect`. Sweeps
        what killed publishers left. Do not promote an old version at the same time.
        """
        ...


@contextmanager
def readable(bundle: Bundle) -> Iterator[None]:
    """Turn what goes wrong while a bundle's files are opened into a BundleError that names it."""
    try:
        yield
    except (OSError, ValueError) as exc:
        raise BundleError(f"{bundle.path} cannot be served: {exc}") from exc


def nothing_published(location: str) -> BundleError:
    """Return the error of a store without a pointer."""
    return BundleError(f"{location} has no published bundle; `meshctl train` makes one")


def moved_pointer(location: str, version: str, found: str | None) -> BundleError:
    """Return the error of a promotion that lost a race."""
    return BundleError(
        f"{location}: {version} was not promoted: the pointer has moved to "
        f"{found or 'nothing'} meanwhile; look at it and promote again"
    )


def check_version(version: str) -> str:
    """Return `version`; raises BundleError unless it can be one."""
    if not is_plain_name(version):
        raise BundleError(f"{version[:80]!r} is not a version")
    return version


def deletable(
    versions: list[str], pointer: Pointer | None, keep: int, protect: Collection[str]
) -> list[str]:
    """Return which of `versions` (oldest first) a `gc` deletes."""
    if keep < 1:
        raise BundleError(f"keep is {keep}; at least 1 version is kept")
    served = {pointer.version, pointer.replaced} if pointer else set()
    spared = {*versions[-keep:], *served, *protect}
    return [version for version in versions if version not in spared]
