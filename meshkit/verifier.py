"""Whether a bundle may be opened here: one trial in a child process for all that ask.

Bundles never change, so a verdict holds for as long as the manifest, which names the hash of
every file, is the same; whoever opens a bundle compares files and manifest first.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from meshkit.bundles import MANIFEST, Bundle, BundleError

REFUSAL_LASTS_S = 30.0  # a trial may have failed for want of time or memory


class Verdict(Protocol):
    """What a trial found."""

    @property
    def is_sound(self) -> bool:
        """Whether the bundle may be opened."""
        ...

    @property
    def reason(self) -> str:
        """Why not; empty when it may."""
        ...


class Verifier:
    """Remembers what a trial found, and shares it through a directory when given one.

    Processes that share `directory` hold one trial
    between them; the others wait for its verdict.
    """

    def __init__(self, trial: Callable[[Bundle], Verdict], directory: Path | None = None) -> None:
        self._trial = trial
        self._directory = directory
        self._sound: set[str] = set()

    def require_sound(self, bundle: Bundle) -> None:
        """Raise BundleError with the reason unless `bundle` is sound."""
        key = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
        if key in self._sound:
            return
        reason = self._shared_reason(key, bundle) if self._directory else self._try(bundle)
        if reason:
            raise BundleError(f"{bundle.path} is refused: {reason}")
        self._sound.add(key)

    def _try(self, bundle: Bundle) -> str:
        verdict = self._trial(bundle)
        return "" if verdict.is_sound else verdict.reason or "it is not sound"

    def _shared_reason(self, key: str, bundle: Bundle) -> str:
        assert self._directory is not None  # noqa: S101 - the caller looked
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{key}.json"
        with (self._directory / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            reason = _read_reason(path)
            if reason is None:
                reason = self._try(bundle)
                _write_reason(path, reason)
        return reason


def _read_reason(path: Path) -> str | None:
    """Return the reason that another process was given, empty for none; None without a verdict."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        reason = str(json.loads(path.read_text())["reason"])
        age_s = time.time() - path.stat().st_mtime
        return reason if not reason or age_s < REFUSAL_LASTS_S else None
    return None


def _write_reason(path: Path, reason: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps({"reason": reason}))
    partial.replace(path)
