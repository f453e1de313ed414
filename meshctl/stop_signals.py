"""Ctrl-C, SIGTERM and a closed terminal, as one wish to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Notes stop signals for the length of a block instead of acting on them.

    `is_requested` is a plain flag to be polled: setting a threading.Event in a
    handler can deadlock with a wait on it in the same thread.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Self:
        self._before = {one: signal.signal(one, self._note) for one in _STOPPING}
        return self

    def __exit__(self, *exc: object) -> None:
        _restore(self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_requested = True


@contextmanager
def ignored_stop_signals() -> Iterator[None]:
    """Let nothing interrupt the block; outside the main thread nothing does anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.SIG_IGN) for one in _STOPPING}
    try:
        yield
    finally:
        _restore(before)


def _restore(before: dict[signal.Signals, _Handler]) -> None:
    for one, handler in before.items():
        signal.signal(one, handler)
