"""The versions that a process holds, and the thread that keeps them.

How this works: every `poll_s` a keeper reads the store's pointer. A version that it has not got
is loaded beside what serves, and only then becomes the current one, so requests never wait. One
that cannot be loaded is refused, with its reason, and not tried again until the pointer moves.
A version that is no longer current stays while somebody asks for it: `hold_s` after the last
question its name leaves the health service, and then its files leave the process.
"""

import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from meshkit.bundles import POINTER
from meshkit.config import ConfigError, setting

DEFAULT_POLL_S = 1.0  # reading a pointer is cheap, and a person waits for it to be followed
DEFAULT_HOLD_S = 600.0  # long enough to notice that a release is bad and go back at no cost
LEAST_HOLD_POLLS = 3  # those who keep a version in use ask for it once a poll
SETTLE_S = 0.5  # clients hear that a version goes within milliseconds
CLOSE_TIMEOUT_S = 1.0
MAX_REFUSALS = 8

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfSettings:
    """How a process follows the store's pointer."""

    poll_s: float = setting(default=DEFAULT_POLL_S, at_least=0.05, at_most=60)
    """Seconds between two looks at the pointer."""
    hold_s: float = setting(default=DEFAULT_HOLD_S, at_least=0.5, at_most=86_400)
    """Seconds that a replaced version stays after it was last asked for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that is not served, and why."""

    version: str
    reason: str


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    asked_at_s: float


class Shelf(Generic[T]):
    """What is held, by version. Readers take no lock: each change replaces a whole mapping."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[str, _Held[T]] = {}
        self._current: str | None = None
        self._refusals: dict[str, str] = {}

    def current(self) -> str | None:
        """Return the version to serve; None before there is one."""
        return self._current

    def versions(self) -> tuple[str, ...]:
        """Return the versions held, oldest first."""
        return tuple(self._held)

    def refusals(self) -> tuple[Refusal, ...]:
        """Return what was refused, newest last."""
        return tuple(Refusal(version, reason) for version, reason in self._refusals.items())

    def get(self, version: str) -> T | None:
        """Return what is held of `version`, or None; it stays for `hold_s` from now."""
        held = self._held.get(version)
        if held is None:
            return None
        held.asked_at_s = self._monotonic()
        return held.value

    def put(self, version: str, value: T) -> None:
        """Hold `value` and make it current."""
        self._held = {**self._held, version: _Held(value, self._monotonic())}
        self.make_current(version)

    def make_current(self, version: str) -> None:
        """Serve a version that is held; the one before is held for `hold_s` from now."""
        if self._current is not None:
            self.get(self._current)
        self.get(version)
        self._current = version
        self.pardon(version)

    def take_off(self, version: str) -> T:
        """Return what was held of `version`, which nobody can ask for any more."""
        value = self._held[version].value
        self._held = {name: held for name, held in self._held.items() if name != version}
        return value

    def idle(self, hold_s: float) -> tuple[str, ...]:
        """Return the versions that are not current and were not asked for in `hold_s`."""
        since_s = self._monotonic() - hold_s
        return tuple(
            version
            for version, held in self._held.items()
            if version != self._current and held.asked_at_s <= since_s
        )

    def refuse(self, version: str, reason: str) -> None:
        """Remember why `version` is not served."""
        others = [(name, why) for name, why in self._refusals.items() if name != version]
        self._refusals = dict([*others, (version, reason)][-MAX_REFUSALS:])

    def pardon(self, version: str) -> None:
        """Forget that `version` was refused."""
        self._refusals = {name: why for name, why in self._refusals.items() if name != version}


class ShelfKeeper(Generic[T]):
    """Keeps a shelf in step with a pointer, in a daemon thread of its own.

    `pointer` returns the version to serve, `load` opens, verifies and warms one; what either
    raises is the reason of a refusal, but a ConfigError of the first `load` ends `waiting`.
    `announce` hears of each version that comes and goes, from `announce_held` on. `discard` is
    given what nobody can ask for any more; a request may still be using it.
    """

    def __init__(
        self,
        shelf: Shelf[T],
        pointer: Callable[[], str],
        load: Callable[[str], T],
        settings: ShelfSettings,
        *,
        announce: Callable[[str, bool], None] = lambda _version, _is_held: None,
        discard: Callable[[T], None] = lambda _: None,
    ) -> None:
        self._shelf = shelf
        self._pointer = pointer
        self._load = load
        self._poll_s = settings.poll_s
        self._hold_s = max(settings.hold_s, LEAST_HOLD_POLLS * settings.poll_s)
        self._announce = announce
        self._discard = discard
        self._wanted: str | None = None
        self._is_announcing = False
        self._fatal: ConfigError | None = None
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shelf-keeper", daemon=True)

    def start(self) -> None:
        """Begin; call once, when everything is imported."""
        # `release_memory` would look at some 80,000 objects that stay, and hold every thread for
        # 40 ms and more; now it looks at some hundred.
        gc.collect()
        gc.freeze()
        self._thread.start()

    def waiting(self) -> bool:
        """Tell whether nothing is served yet. Raises ConfigError when nothing ever will be."""
        if self._fatal is not None:
            raise self._fatal
        return self._shelf.current() is None

    def announce_held(self) -> None:
        """Announce what is held, and from now on every change."""
        with self._changing:
            self._is_announcing = True
            for version in self._shelf.versions():
                self._announce(version, True)

    def close(self) -> None:
        """Stop following. Waits for a load at most `CLOSE_TIMEOUT_S`: its thread is a daemon."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def turn(self) -> None:
        """Look at the pointer once, and do what follows from it and from the time."""
        self._follow()
        for version in self._shelf.idle(self._hold_s):
            self._drop(version)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.turn()
            except ConfigError as error:
                self._fatal = error
                return
            except Exception:  # noqa: BLE001 - what is held serves, whatever is wrong
                _log.exception("the shelf could not be kept; it is tried again")
            self._stopping.wait(self._poll_s)

    def _follow(self) -> None:
        try:
            wanted = self._pointer()
        except Exception as error:  # noqa: BLE001 - what serves must outlive any fault of a store
            self._refuse(POINTER, error)
            return
        self._shelf.pardon(POINTER)
        if wanted != self._wanted:
            self._wanted = wanted
            self._take(wanted)

    def _take(self, version: str) -> None:
        if version in self._shelf.versions():
            self._shelf.make_current(version)
            _log.info("serving version %s again", version)
            return
        started_s = time.monotonic()
        try:
            value = self._load(version)
        except Exception as error:  # the last good version stays, whatever is wrong with this one
            if isinstance(error, ConfigError) and self._shelf.current() is None:
                raise
            self._refuse(version, error)
            return
        with self._changing:
            self._shelf.put(version, value)
            self._tell(version, is_held=True)
        _log.info("serving version %s, loaded in %.1f s", version, time.monotonic() - started_s)

    def _refuse(self, version: str, error: Exception) -> None:
        reason = " ".join((str(error) or type(error).__name__).split())
        if Refusal(version, reason) not in self._shelf.refusals():
            serving = self._shelf.current() or "nothing"
            _log.error("version %s is refused, %s stays in service: %s", version, serving, reason)
        self._shelf.refuse(version, reason)

    def _drop(self, version: str) -> None:
        self._tell(version, is_held=False)
        self._stopping.wait(SETTLE_S)
        if version not in self._shelf.idle(self._hold_s):
            self._tell(version, is_held=True)
            return
        self._discard(self._shelf.take_off(version))
        release_memory()
        _log.info("version %s was dropped", version)

    def _tell(self, version: str, *, is_held: bool) -> None:
        if self._is_announcing:
            self._announce(version, is_held)


def release_memory() -> None:
    """Give memory that nothing refers to back to the system, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
