"""The life of a fault proxy: listen, reach the server, announce, relay until told to end."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from meshctl.faults.config import FaultProxyConfig
from meshctl.faults.fault import FaultLevel
from meshctl.faults.switch import Switch
from meshctl.faults.tally import Tally
from meshkit.addresses import split_address
from meshkit.config import PREFIX, ConfigError

_POLL_S = 0.05

_log = logging.getLogger(__name__)


class Relay(Protocol):
    """What relays at one level."""

    async def start(self, listen: str) -> str:
        """Listen at `listen` and return the address bound. Raises OSError."""

    async def stop(self) -> None:
        """Stop listening and end what is relayed."""


def serve(config: FaultProxyConfig) -> None:
    """Relay until SIGTERM or SIGINT. Raises `ConfigError` when the proxy cannot listen."""
    asyncio.run(_live(config))


async def _live(config: FaultProxyConfig) -> None:
    asked = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, asked.set)
    tally = Tally(config.fault_file)
    switch = Switch(config.fault_level, config.fault_file, tally)
    relay = _relay_of(config, switch, tally)
    switch.look()
    address = await _start(relay, config)
    try:
        await _first_of(asked.wait(), switch.watch(), _announce(address, config))
    finally:
        await relay.stop()
        tally.write()


async def _first_of(*parts: Coroutine[None, None, object]) -> None:
    """Run all until one ends, end the others, and raise what it raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in ended:
        task.result()


def _relay_of(config: FaultProxyConfig, switch: Switch, tally: Tally) -> Relay:
    """Make the relay of the level; gRPC costs 30 MB that the others save."""
    if config.fault_level is FaultLevel.CALLS:
        from meshctl.faults.calls_relay import CallsRelay  # noqa: PLC0415 - see the docstring

        return CallsRelay(config.upstream, switch, tally)
    if config.fault_level is FaultLevel.DYNAMODB:
        from meshctl.faults.dynamodb_relay import DynamodbRelay  # noqa: PLC0415 - see the docstring

        return DynamodbRelay(config.upstream, switch, tally)
    from meshctl.faults.bytes_relay import BytesRelay  # noqa: PLC0415 - see the docstring

    return BytesRelay(config.upstream, switch, tally)


async def _start(relay: Relay, config: FaultProxyConfig) -> str:
    try:
        return await relay.start(config.listen)
    except OSError as exc:
        raise ConfigError(
            f"{PREFIX}LISTEN={config.listen!r}: cannot listen there: {exc}; "
            "allowed: a free port, or 0 to have one picked"
        ) from exc


async def _announce(address: str, config: FaultProxyConfig) -> None:
    """Keep the address file in place from when the server was reached; never returns."""
    while not await _is_reachable(config.upstream):
        await asyncio.sleep(_POLL_S)
    _log.info("relaying %s to %s at level %s", address, config.upstream, config.fault_level)
    with _announced(address, config.address_file):
        await asyncio.get_running_loop().create_future()


async def _is_reachable(address: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(*split_address(address))
    except OSError:
        return False
    writer.close()
    return True


@contextmanager
def _announced(address: str, path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(address)
        unfinished.replace(path)
    except OSError as exc:
        raise ConfigError(
            f"{PREFIX}ADDRESS_FILE='{path}': {exc.strerror}; "
            "allowed: a file in an existing directory that this process may write to"
        ) from exc
    try:
        yield
    finally:
        # A successor may already have written its own address there.
        if path.exists() and path.read_text() == address:
            path.unlink()
