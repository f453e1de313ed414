"""A channel uses the servers that are SERVING, and finds them again."""

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshkit.channels import MAX_MESSAGE_BYTES, open_channel
from meshkit.server import SERVER_OPTIONS
from tests.integration.meshkit_children import DEADLINE_S, ROOT, child
from tests.integration.meshkit_echo import ECHO, SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server in this process, whose health a test sets."""

    address: str
    checks: health.HealthServicer

    def report(self, status: int) -> None:
        self.checks.set("", status)


@contextmanager
def leaf(name: str) -> Iterator[Leaf]:
    """Serve `Echo`: `name` and the caller's address, filled up to the request's size."""

    def echo(request: bytes, context: Any) -> bytes:
        return f"{name} {context.peer()}".ljust(len(request)).encode()

    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    checks = health.HealthServicer()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Leaf(f"127.0.0.1:{port}", checks)
        server.stop(0).wait()


@pytest.fixture
def pair() -> Iterator[tuple[Leaf, Leaf]]:
    with leaf("a") as first, leaf("b") as second:
        yield first, second


async def call(channel: Any, request: bytes = b"") -> bytes:
    answer: bytes = await channel.unary_unary(ECHO)(request, timeout=DEADLINE_S)
    return answer


async def echo(channel: Any, request: bytes = b"") -> list[str]:
    """Return the words of one leaf's answer: its name and the caller's address."""
    return (await call(channel, request)).decode().split()


async def who_answers(channel: Any, calls: int) -> set[str]:
    return {(await echo(channel))[0] for _ in range(calls)}


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    expires_at_s = time.monotonic() + DEADLINE_S
    while not await is_so():
        assert time.monotonic() < expires_at_s, "waited in vain"
        await asyncio.sleep(0.005)


def test_calls_go_to_every_serving_server(pair: tuple[Leaf, Leaf]) -> None:
    async def check() -> None:
        async with open_channel([each.address for each in pair]) as channel:

            async def both_answer() -> bool:
                return await who_answers(channel, 2) == {"a", "b"}

            await eventually(both_answer)
            turns = [(await echo(channel))[0] for _ in range(10)]

        assert turns.count("a") == turns.count("b") == 5

    asyncio.run(check())


def test_a_server_that_is_not_serving_gets_no_calls_until_it_is(pair: tuple[Leaf, Leaf]) -> None:
    serving, other = pair
    other.report(NOT_SERVING)

    async def check() -> None:
        async with open_channel([each.address for each in pair]) as channel:

            async def both_answer() -> bool:
                return await who_answers(channel, 4) == {"a", "b"}

            async def one_answers() -> bool:
                return await who_answers(channel, 4) == {"a"}

            assert await who_answers(channel, 20) == {"a"}
            other.report(SERVING)
            await eventually(both_answer)
            other.report(NOT_SERVING)
            await eventually(one_answers)
            assert await who_answers(channel, 20) == {"a"}

    assert serving.address != other.address
    asyncio.run(check())


def test_a_channel_of_one_health_service_uses_the_servers_that_report_that_one(
    pair: tuple[Leaf, Leaf],
) -> None:
    first, second = pair
    for each, status in ((first, SERVING), (second, NOT_SERVING)):
        each.report(SERVING)
        each.checks.set("v2", status)
    second.checks.set("v3", SERVING)

    async def who(version: str) -> set[str]:
        addresses = [each.address for each in pair]
        async with open_channel(addresses, health_service=version) as channel:
            return await who_answers(channel, 20)

    assert asyncio.run(who("v2")) == {"a"}
    assert asyncio.run(who("v3")) == {"b"}


def test_health_is_checked_without_any_import_by_the_caller(pair: tuple[Leaf, Leaf]) -> None:
    serving, other = pair
    other.report(NOT_SERVING)
    program = f"""
import asyncio
from meshkit.channels import open_channel
async def main():
    async with open_channel(["{serving.address}", "{other.address}"]) as channel:
        for _ in range(10):
            print((await channel.unary_unary("{ECHO}")(b"", timeout=10)).decode().split()[0])
asyncio.run(main())
"""

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout.split() == ["a"] * 10


def test_with_no_server_serving_a_call_fails_at_once(pair: tuple[Leaf, Leaf]) -> None:
    for each in pair:
        each.report(NOT_SERVING)

    async def check() -> None:
        async with open_channel([each.address for each in pair]) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel)

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(check())


def test_equal_channels_have_connections_of_their_own(pair: tuple[Leaf, Leaf]) -> None:
    addresses = [pair[0].address]

    async def check() -> None:
        async with open_channel(addresses) as first, open_channel(addresses) as second:
            assert (await echo(first))[1] != (await echo(second))[1]

    asyncio.run(check())


def test_a_host_name_is_resolved(pair: tuple[Leaf, Leaf]) -> None:
    address = pair[0].address.replace("127.0.0.1", "localhost")

    async def check() -> None:
        async with open_channel([address]) as channel:
            assert await who_answers(channel, 1) == {"a"}

    asyncio.run(check())


def test_messages_up_to_the_limit_pass_and_larger_ones_do_not(pair: tuple[Leaf, Leaf]) -> None:
    async def check() -> None:
        async with open_channel([pair[0].address]) as channel:
            answer = await call(channel, bytes(MAX_MESSAGE_BYTES))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, bytes(MAX_MESSAGE_BYTES + 1))

        assert len(answer) == MAX_MESSAGE_BYTES
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(check())


def test_a_server_that_was_killed_and_restarted_is_reached_again(tmp_path: Path) -> None:
    async def check(address: str, kill: Callable[[], None]) -> None:
        async with open_channel([address]) as channel:
            assert await call(channel, b"1") == b"first:1"
            kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, b"2")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

            with child(tmp_path, "sync", "second", RECMESH_LISTEN=address) as second:
                await asyncio.to_thread(second.wait_until_serving)

                async def second_answers() -> bool:
                    return await answer_or_none(channel) == b"second:3"

                await eventually(second_answers)

    with child(tmp_path, "sync", "first") as first:
        first.wait_until_serving()
        asyncio.run(check(first.address, lambda: kill_and_wait(first.process)))


def kill_and_wait(process: Any) -> None:
    process.kill()
    process.wait()


async def answer_or_none(channel: Any) -> bytes | None:
    try:
        return await call(channel, b"3")
    except grpc.aio.AioRpcError:
        return None


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_no_call_fails_while_one_of_two_servers_drains(kind: str, tmp_path: Path) -> None:
    async def check(addresses: list[str], leaving: Any) -> int:
        calls = 0
        async with open_channel(addresses) as channel:
            assert await asyncio.gather(*(call(channel) for _ in range(8)))
            leaving.send_signal(signal.SIGTERM)
            expires_at_s = time.monotonic() + DEADLINE_S
            while leaving.poll() is None and time.monotonic() < expires_at_s:
                await asyncio.gather(*(call(channel) for _ in range(8)))
                calls += 8
        return calls

    with child(tmp_path, kind, "stays") as stays, child(tmp_path, kind, "leaves") as leaves:
        stays.wait_until_serving()
        leaves.wait_until_serving()

        calls = asyncio.run(check([stays.address, leaves.address], leaves.process))

        assert leaves.exit_status() == 0
    assert calls > 0


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        ([], "at least one"),
        (["localhost:1", "127.0.0.1:2"], "localhost:1, 127.0.0.1:2"),
        (["one:1", "two:2"], "a host name stands alone"),
        (["127.0.0.1:1", "[::1]:2"], "must all be IPv4 or all IPv6"),
        (["127.0.0.1"], "'127.0.0.1' is not host:port"),
        (["127.0.0.1:0"], "no port that can be called"),
    ],
)
def test_addresses_that_cannot_be_balanced_are_refused(addresses: list[str], fault: str) -> None:
    async def check() -> None:
        with pytest.raises(ValueError, match=re.escape(fault)):
            open_channel(addresses)

    asyncio.run(check())
