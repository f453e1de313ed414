"""A relay of TCP connections that can lose, spoil, delay and reset what they carry."""

import asyncio

from meshctl.faults.link import CallerSide, Link
from meshctl.faults.switch import Switch
from meshctl.faults.tally import Tally
from meshkit.addresses import split_address, with_port


class BytesRelay:
    """Relays every connection to `upstream` (`host:port`) as the switch says."""

    def __init__(self, upstream: str, switch: Switch, tally: Tally) -> None:
        self._upstream = split_address(upstream)
        self._switch = switch
        self._tally = tally
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> str:
        """Listen at `listen` and return the address bound. Raises OSError."""
        self._switch.on_change = self._change
        host, port = split_address(listen)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port)
        return with_port(listen, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.abort()

    def _accept(self) -> CallerSide:
        return CallerSide(Link(self._upstream, self._switch, self._tally, self._links))

    def _change(self) -> None:
        for link in list(self._links):
            link.change()
