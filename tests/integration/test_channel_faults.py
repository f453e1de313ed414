"""A channel leaves a server that is broken, stopped or cut off, until it is well again."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshkit.channels import open_channel
from meshkit.server import SERVER_OPTIONS
from recmesh_client.channel import channel_options, grpc_target
from tests.integration.meshkit_children import DEADLINE_S, child
from tests.integration.meshkit_echo import ECHO, SERVICE

Code = grpc.StatusCode
INTERVALS_S = 3.0  # at least two looks of outlier detection
IDLE_S = 5.0  # a server that is asked too often hangs up at the fourth ping
LATE_S = 0.1
PATIENCE_S = 60.0


@dataclass(slots=True)
class Worker:
    """A server in this process that answers its name, or as told, and counts the attempts."""

    name: str
    address: str = ""
    fails_with: grpc.StatusCode | None = None
    is_late: bool = False
    peers: list[str] = field(default_factory=list)

    def echo(self, _request: bytes, context: Any) -> bytes:
        self.peers.append(context.peer())
        if self.is_late:
            time.sleep(2 * LATE_S)
        if self.fails_with:
            context.abort(self.fails_with, "as told")
        return self.name.encode()


@contextmanager
def worker(name: str, fails_with: grpc.StatusCode | None = None) -> Iterator[Worker]:
    it = Worker(name, fails_with=fails_with)
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(it.echo)}
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        it.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield it
        server.stop(0).wait()


@asynccontextmanager
async def cuttable_relay(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Yield an address that relays to `address` while the event is set, else a black hole."""
    host, port = address.split(":")
    is_whole = asyncio.Event()

    async def pump(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        try:
            while received := await source.read(65536):
                if is_whole.is_set():
                    to.write(received)
        finally:
            to.close()

    async def accept(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(near, to_far), pump(far, to_near), return_exceptions=True)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", is_whole


def open_client_channel(addresses: Sequence[str]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(grpc_target(addresses), options=channel_options())


async def outcome(channel: grpc.aio.Channel, timeout_s: float = DEADLINE_S) -> str:
    """Return the name of who answered, or of the status."""
    call: Any = channel.unary_unary(ECHO)
    try:
        answer: bytes = await call(b"", timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return answer.decode().partition(":")[0]


async def until(
    channel: grpc.aio.Channel, is_so: Callable[[list[str]], bool], timeout_s: float = LATE_S
) -> None:
    """Call, some 100 times a second, until `is_so` of the last 20 outcomes."""
    outcomes: list[str] = []
    expires_at_s = time.monotonic() + PATIENCE_S
    while not is_so(outcomes[-20:]):
        assert time.monotonic() < expires_at_s, f"waited in vain: {outcomes[-20:]}"
        outcomes.append(await outcome(channel, timeout_s))
        await asyncio.sleep(0.01)


def only_a(outcomes: list[str]) -> bool:
    return outcomes == ["a"] * 20


def both(outcomes: list[str]) -> bool:
    return {"a", "b"} <= set(outcomes[-2:])


@asynccontextmanager
async def each_channel(addresses: Sequence[str]) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Open the mesh's own channel and the client's, side by side."""
    async with open_channel(addresses) as mesh, open_client_channel(addresses) as client:
        yield [mesh, client]


# Retries


def outcomes_of(
    addresses: Sequence[str], calls: int, retry_on: Sequence[grpc.StatusCode] = (Code.UNAVAILABLE,)
) -> list[str]:
    async def check() -> list[str]:
        async with open_channel(addresses, retry_on=retry_on) as channel:
            return [await outcome(channel) for _ in range(calls)]

    return asyncio.run(check())


def test_with_every_worker_failing_100_calls_make_at_most_120_attempts() -> None:
    with worker("a", Code.UNAVAILABLE) as a, worker("b", Code.UNAVAILABLE) as b:
        outcomes = outcomes_of([a.address, b.address], calls=100)

        assert outcomes == ["UNAVAILABLE"] * 100
        assert 100 < len(a.peers) + len(b.peers) <= 120


def test_a_call_that_one_worker_refuses_is_answered_by_the_other() -> None:
    outcomes: set[str] = set()

    async def check(a: Worker, b: Worker) -> None:
        def is_refused_thrice(last: list[str]) -> bool:
            outcomes.update(last)
            return len(b.peers) >= 3

        async with open_channel([a.address, b.address], retry_on=[Code.UNAVAILABLE]) as channel:
            await until(channel, both, DEADLINE_S)
            b.fails_with = Code.UNAVAILABLE
            b.peers.clear()
            await until(channel, is_refused_thrice, DEADLINE_S)

    with worker("a") as a, worker("b") as b:
        asyncio.run(check(a, b))

    assert outcomes == {"a"}


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.ABORTED])
def test_no_other_status_is_retried(code: grpc.StatusCode) -> None:
    with worker("a", code) as a:
        assert outcomes_of([a.address], calls=5) == [code.name] * 5
        assert len(a.peers) == 5


def test_a_channel_that_was_not_told_to_retries_nothing() -> None:
    with worker("a", Code.UNAVAILABLE) as a:
        assert outcomes_of([a.address], calls=5, retry_on=()) == ["UNAVAILABLE"] * 5
        assert len(a.peers) == 5


# Ejection


def test_a_worker_that_fails_or_is_late_is_left_out_until_it_is_well() -> None:
    async def check(a: Worker, b: Worker, *, is_late: bool) -> None:
        async with open_channel([a.address, b.address]) as channel:
            await until(channel, both)
            b.is_late, b.fails_with = is_late, None if is_late else Code.INTERNAL
            await until(channel, only_a)
            b.is_late, b.fails_with = False, None
            await until(channel, both)

    async def check_both(workers: Sequence[Worker]) -> None:
        await asyncio.gather(check(*workers[:2], is_late=True), check(*workers[2:], is_late=False))

    with worker("a") as a, worker("b") as b, worker("a") as c, worker("b") as d:
        asyncio.run(check_both([a, b, c, d]))


def test_neither_a_lone_worker_nor_all_of_two_are_left_out() -> None:
    async def codes(addresses: Sequence[str]) -> set[str]:
        seen: set[str] = set()
        async with open_channel(addresses) as channel:
            expires_at_s = time.monotonic() + INTERVALS_S
            while time.monotonic() < expires_at_s:
                seen.add(await outcome(channel))
                await asyncio.sleep(0.01)
        return seen

    async def check(*all_addresses: Sequence[str]) -> list[set[str]]:
        return await asyncio.gather(*(codes(addresses) for addresses in all_addresses))

    fails_with = Code.INTERNAL
    with worker("a", fails_with) as a, worker("b", fails_with) as b, worker("c", fails_with) as c:
        seen = asyncio.run(check([c.address], [a.address, b.address]))

    assert seen == [{"INTERNAL"}, {"INTERNAL"}]


# Pings


def test_a_stopped_process_of_two_is_left_and_used_again_when_it_goes_on(tmp_path: Path) -> None:
    async def check(addresses: Sequence[str], process: Any) -> None:
        async with each_channel(addresses) as channels:
            await asyncio.gather(*(until(each, both, DEADLINE_S) for each in channels))
            process.send_signal(signal.SIGSTOP)
            await asyncio.gather(*(until(each, only_a) for each in channels))
            process.send_signal(signal.SIGCONT)
            await asyncio.gather(*(until(each, both) for each in channels))

    with child(tmp_path, "sync", "a") as a, child(tmp_path, "aio", "b") as b:
        a.wait_until_serving()
        b.wait_until_serving()
        asyncio.run(check([a.address, b.address], b.process))


def test_calls_to_a_lone_stopped_process_fail_before_their_deadline_until_it_goes_on(
    tmp_path: Path,
) -> None:
    async def check(address: str, process: Any) -> None:
        async with each_channel([address]) as channels:
            await asyncio.gather(*(until(each, only_a, DEADLINE_S) for each in channels))
            process.send_signal(signal.SIGSTOP)
            outcomes = await asyncio.gather(*(outcome(each) for each in channels))
            process.send_signal(signal.SIGCONT)
            await asyncio.gather(*(until(each, only_a) for each in channels))

        assert outcomes == ["UNAVAILABLE"] * 2

    with child(tmp_path, "aio", "a") as a:
        a.wait_until_serving()
        asyncio.run(check(a.address, a.process))


def test_a_connection_through_a_black_hole_is_found_dead_and_replaced() -> None:
    async def check(address: str) -> None:
        async with cuttable_relay(address) as (relayed, is_whole):
            is_whole.set()
            async with open_channel([relayed]) as channel:
                await until(channel, only_a, DEADLINE_S)
                is_whole.clear()
                assert await outcome(channel) == "UNAVAILABLE"
                is_whole.set()
                await until(channel, only_a)

    with worker("a") as a:
        asyncio.run(check(a.address))


def test_calls_into_a_black_hole_fail_before_their_deadline() -> None:
    async def check(address: str) -> list[str]:
        async with cuttable_relay(address) as (relayed, _), open_channel([relayed]) as channel:
            return [await outcome(channel) for _ in range(20)]

    with worker("a") as a:
        assert asyncio.run(check(a.address)) == ["UNAVAILABLE"] * 20


def test_an_idle_connection_is_not_ended_for_its_pings() -> None:
    async def check(address: str) -> None:
        async with each_channel([address]) as channels:
            for each in channels:
                assert await outcome(each) == "a"
            await asyncio.sleep(IDLE_S)
            for each in channels:
                assert await outcome(each) == "a"

    def peers() -> list[str]:
        with worker("a") as a:
            asyncio.run(check(a.address))
        return a.peers

    # A machine that stands still for longer than a ping may take ends connections as well.
    assert any(len(set(peers())) == 2 for _ in range(3))
