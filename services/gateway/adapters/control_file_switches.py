"""Switches in a file: `{"disabled_sources": ["ann"]}`, read again in the background."""

import asyncio
import json
import logging
from collections.abc import Collection
from pathlib import Path

POLL_S = 0.5
MAX_BYTES = 65_536

_log = logging.getLogger(__name__)


class ControlFileSwitches:
    """Holds what an operator switched off; a missing file switches nothing off."""

    def __init__(self, path: Path | None, known_sources: Collection[str]) -> None:
        self._path = path
        self._known = frozenset(known_sources)
        self._text: str | None = None
        self._disabled: frozenset[str] = frozenset()

    def disabled_sources(self) -> frozenset[str]:
        """Return the names of the sources not to ask now."""
        return self._disabled

    async def watch(self) -> None:
        """Read the file every `POLL_S` until cancelled; a bad file keeps what was."""
        while self._path is not None:
            self.read(self._path)
            await asyncio.sleep(POLL_S)

    def read(self, path: Path) -> None:
        """Take over what the file says, and log it when that is something new."""
        try:
            text = path.read_text() if path.stat().st_size <= MAX_BYTES else "too large"
        except FileNotFoundError:
            text = "{}"
        except (OSError, UnicodeDecodeError) as exc:
            text = f"unreadable: {exc}"
        if text != self._text:
            self._text = text
            self._take(path, text)

    def _take(self, path: Path, text: str) -> None:
        try:
            disabled = parse_switches(text)
        except ValueError as exc:
            _log.error("%s is ignored, and what it said before stays: %s", path, exc)
            return
        unknown = disabled - self._known
        if unknown:
            _log.warning("%s names sources that are not configured: %s", path, sorted(unknown))
        if disabled != self._disabled:
            _log.info("switched off now: %s", ", ".join(sorted(disabled)) or "nothing")
        self._disabled = disabled


def parse_switches(text: str) -> frozenset[str]:
    """Return the sources that a control file switches off. Raises ValueError saying why not."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:  # the latter: brackets nested by the thousand
        raise ValueError(f"it is not JSON: {exc}") from exc
    names = fields.get("disabled_sources", []) if isinstance(fields, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('it must be like {"disabled_sources": ["ann"]}')
    return frozenset(names)
