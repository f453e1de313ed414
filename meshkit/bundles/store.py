"""The port: what every bundle store does."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from meshkit.bundles.directory_store import Bundle


class BundleStore(Protocol):
    """Immutable bundles behind one atomic pointer."""

    def current(self) -> str:
        """Return the version to serve. Raises BundleError when nothing is published."""
        ...

    def open(self, version: str | None = None) -> Bundle:
        """Return `version` (None: the current one), verified. Raises BundleError."""
        ...

    def publish(
        self, write: Callable[[Path], None], facts: Mapping[str, Any], *, now: datetime
    ) -> Bundle:
        """Write a bundle and make it current."""
        ...
