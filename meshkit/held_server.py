"""Serves what a shelf holds: from an empty shelf to the end, on a server with threads."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc

from meshkit.bundles import Bundle, BundleError, BundleStore, open_store
from meshkit.probation import MEMORY_LIMIT_BYTES, TIME_LIMIT_S, Verdict, on_probation
from meshkit.server import Health, ServerSettings, serve_sync
from meshkit.shelf import Shelf, ShelfKeeper, ShelfSettings
from meshkit.telemetry import metrics
from meshkit.telemetry.bundle_metrics import BundleMetrics
from meshkit.verifier import Verifier

WAIT_S = 0.05
MEMORY_PER_BYTE = 4
"""Address space of a trial per byte of the bundle: its files are mapped, and copied at worst."""
LEAST_BYTES_PER_S = 20e6
"""What a trial gets through on a busy machine."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSettings:
    """Which bundles a process serves, read from RECMESH_* variables."""

    bundles: str
    """Location of the bundle store."""
    bundle_version: str | None = None
    """The only version to serve; unset: the store's current one, whatever it will be."""
    verifier: str = "pipeline.verify_bundle"
    """Module that tries a bundle in a child process; `none` trusts sizes and hashes."""
    verdicts: Path | None = None
    """Directory in which the processes of a machine share verdicts; unset: each tries itself."""
    shelf: ShelfSettings


class VerifiedBundles:
    """Opens bundles of a store once they have been verified."""

    def __init__(self, settings: BundleSettings) -> None:
        self._store: BundleStore = open_store(settings.bundles)
        self._pinned = settings.bundle_version
        module = settings.verifier
        self._verifier = None
        if module != "none":
            self._verifier = Verifier(partial(_try, module), settings.verdicts)

    def current(self) -> str:
        """Return the version to serve. Raises BundleError."""
        return self._pinned or self._store.current()

    def open(self, version: str) -> Bundle:
        """Return a version that may be served. Raises BundleError."""
        bundle = self._store.open(version)
        if self._verifier is not None:
            self._verifier.require_sound(bundle)
        return bundle


def _try(module: str, bundle: Bundle) -> Verdict:
    size = sum(entry.size for entry in bundle.manifest.files.values())
    return on_probation(
        module,
        [str(bundle.path)],
        time_limit_s=TIME_LIMIT_S + size / LEAST_BYTES_PER_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES + MEMORY_PER_BYTE * size,
    )


def keeper_of(
    shelf: Shelf[T],
    settings: BundleSettings,
    load: Callable[[Bundle], T],
    *,
    announce: Callable[[str, bool], None] = lambda _version, _is_held: None,
    discard: Callable[[T], None] = lambda _: None,
    served: Callable[[], str | None] | None = None,
) -> ShelfKeeper[T]:
    """Return the keeper of a shelf of verified bundles; `load` may raise BundleError.

    `served` returns the version served now, where that is not always the shelf's current one.
    """
    bundles = VerifiedBundles(settings)
    counted = BundleMetrics(metrics.meter(), served or shelf.current)
    return ShelfKeeper(
        shelf,
        bundles.current,
        counted.watched(bundles.open, load),
        settings.shelf,
        announce=announce,
        discard=discard,
    )


def require_servable(settings: BundleSettings, shelf: Shelf[T]) -> None:
    """Raise BundleError when the only version that may be served was refused."""
    if settings.bundle_version and shelf.refusals():
        raise BundleError(shelf.refusals()[0].reason)


def serve_held(
    server: ServerSettings,
    bundles: BundleSettings,
    load: Callable[[Bundle], T],
    register: Callable[[grpc.Server, Shelf[T]], None],
    *,
    service_names: Sequence[str],
    discard: Callable[[T], None] = lambda _: None,
) -> None:
    """Serve every version that is held until told to stop; ready once one is.

    `load` opens and warms a bundle. A checked version counts as asked for, so that a caller can
    keep one that it has no requests for. Raises ConfigError, and BundleError for a pinned version.
    """
    shelf = Shelf[T]()
    health = Health(on_check=shelf.get)
    keeper = keeper_of(shelf, bundles, load, announce=health.set, discard=discard)

    def wait() -> None:
        keeper.start()
        while keeper.waiting():
            require_servable(bundles, shelf)
            time.sleep(WAIT_S)

    serve_sync(
        server,
        lambda grpc_server: register(grpc_server, shelf),
        service_names=service_names,
        warm=wait,
        on_ready=lambda _: keeper.announce_held(),
        on_stop=keeper.close,
        health=health,
    )
