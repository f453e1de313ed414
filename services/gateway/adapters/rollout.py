"""Moves the gateway's pin: to the version that its shelf serves, once every leaf holds it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from meshkit.call_log import CallLog
from meshkit.shelf import Shelf
from services.gateway.domain.pins import Edition, Pins

FIRST_LIMIT_S = 2.0  # a gateway whose leaves are not all there serves what the others give
FIRST_POLL_S = 0.05

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Leaves(Protocol):
    """Knows what leaves hold."""

    async def hold(self, version: str) -> bool:
        """Tell whether every worker that can be reached holds `version`."""
        ...


class Rollout(Generic[T]):
    """Keeps `pins` in step with `shelf`; for one event loop.

    `issue` makes an edition of what the shelf holds, warm; `withdraw` ends what it keeps open.
    """

    def __init__(
        self,
        shelf: Shelf[T],
        leaves: Leaves,
        pins: Pins,
        *,
        issue: Callable[[T], Awaitable[Edition]],
        withdraw: Callable[[Edition], Awaitable[None]],
        call_log: CallLog,
    ) -> None:
        self._shelf = shelf
        self._leaves = leaves
        self._pins = pins
        self._issue = issue
        self._withdraw = withdraw
        self._call_log = call_log
        self._editions: dict[str, Edition] = {}

    async def start(self) -> None:
        """Pin the shelf's current version, with or without the leaves that are not there yet."""
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + FIRST_LIMIT_S
        while (version := self._shelf.current()) is None or (
            not await self._leaves.hold(version) and loop.time() < gives_up_at_s
        ):
            await asyncio.sleep(FIRST_POLL_S)
        await self._pin(version)

    async def follow(self, poll_s: float) -> None:
        """Look every `poll_s` until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.turn()
            except Exception:  # noqa: BLE001 - what is pinned serves, whatever is wrong
                _log.exception("the pin could not be moved and stays where it is")

    async def turn(self) -> None:
        """Move the pin if it is due, keep what is in use, let go of what is not."""
        wanted = self._shelf.current()
        if wanted is not None and wanted != self._pinned() and await self._leaves.hold(wanted):
            await self._pin(wanted)
        for version in self._in_use():
            self._shelf.get(version)
            await self._leaves.hold(version)  # being asked keeps it there as well
        for version in self._editions.keys() - set(self._in_use()) - set(self._shelf.versions()):
            await self._withdraw(self._editions.pop(version))

    def _pinned(self) -> str | None:
        return None if self._pins.current is None else self._pins.current.version

    def _in_use(self) -> list[str]:
        return [
            version
            for version, edition in self._editions.items()
            if edition is self._pins.current or edition.requests
        ]

    async def _pin(self, version: str) -> None:
        if version not in self._editions:
            held = self._shelf.get(version)
            if held is None:
                return
            self._editions[version] = await self._issue(held)
        self._pins.move(self._editions[version])
        self._call_log.note("pinned", version)
        _log.info("requests are pinned to version %s", version)
