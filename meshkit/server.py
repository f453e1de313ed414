"""The life of a server process: bind, load, serve, drain, leave.

1. The port is bound and `register` adds the servicers.
2. While `warm` runs, health answers NOT_SERVING and calls are refused with UNAVAILABLE. Until
   here SIGTERM ends the process without further ado, with status 0.
3. Health turns to SERVING, the address file appears, `on_ready` hears the address.
4. SIGTERM or SIGINT: the address file goes, health turns to NOT_SERVING so that clients turn
   elsewhere, calls are taken for `settle_s` more and then no longer, running ones get `drain_s`,
   `on_stop` runs, and the function returns. The same signal again ends the process on the spot,
   and a process that has not ended `LEAVE_S` after its drain is ended by force, with status 1.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshkit import addresses
from meshkit.admission import Admission, CallPool
from meshkit.channels import MESSAGE_OPTIONS, SERVER_PING_OPTIONS
from meshkit.config import PREFIX, ConfigError, setting
from meshkit.interceptors import AioServerInterceptor, SyncServerInterceptor
from meshkit.served_call import CallGate

DEFAULT_LISTEN = "127.0.0.1:0"  # never reachable from outside unless asked
DEFAULT_MAX_WORKERS = 4  # a call is native code that holds a core; more threads only queue
DEFAULT_MAX_WAITING = 64  # a full queue of millisecond calls empties within a page's deadline
DEFAULT_DRAIN_S = 5.0  # as long as a patient caller waits
DEFAULT_MAX_CONNECTION_AGE_S = 300.0  # gRPC itself varies it by a tenth, so not all end at once
DEFAULT_SETTLE_S = 0.25  # clients hear NOT_SERVING within milliseconds
LEAVE_S = 3.0  # for `on_stop` and the interpreter's own end
# gRPC's own limit refuses without a word of when to try again, and on aio counts health watchers:
# it only bounds memory, far above what admission lets in and lets wait.
MAX_OPEN_CALLS_AIO = 2048
MAX_REFUSALS_SYNC = 1024
POLL_S = 0.02
IDLE_POLLS = 2  # a call that waits for a thread is not counted yet, so one idle look is no proof
# A 0.22 ms kernel without the GIL took 5.4 ms beside one busy Python thread at the default 5 ms.
SWITCH_INTERVAL_S = 0.0005

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two processes must never share a port by accident
    *SERVER_PING_OPTIONS,
    *MESSAGE_OPTIONS,
)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where a server listens and how it ends.

    `address_file` gets the bound `host:port` once the server is SERVING. `max_workers` is the
    number of threads of a sync server and `max_waiting` how many calls may wait for one, further
    ones are refused; aio uses neither. A server that is told to stop says so for `settle_s`, then
    takes no new calls, and gives the running ones `drain_s` to end. A connection ends by itself
    after about `max_connection_age_s`, when its calls have ended, so that who balances over a name
    looks it up again and finds servers that are new.
    """

    listen: str = setting(
        default=DEFAULT_LISTEN, parse=addresses.parse_address, allowed=addresses.ALLOWED
    )
    address_file: Path | None = None
    reflection: bool = False
    max_workers: int = setting(default=DEFAULT_MAX_WORKERS, at_least=1, at_most=256)
    max_waiting: int = setting(default=DEFAULT_MAX_WAITING, at_least=1, at_most=10_000)
    settle_s: float = setting(default=DEFAULT_SETTLE_S, at_least=0, at_most=60)
    drain_s: float = setting(default=DEFAULT_DRAIN_S, at_least=0, at_most=600)
    max_connection_age_s: float = setting(
        default=DEFAULT_MAX_CONNECTION_AGE_S, at_least=1, at_most=86_400
    )


class Health:
    """What a sync server's health service says of names that come and go while it serves.

    `on_check` hears of every name that somebody checks. Safe between threads.
    """

    def __init__(self, on_check: Callable[[str], object] | None = None) -> None:
        self.checks = _HealthApart(on_check or _nothing)

    def set(self, name: str, is_serving: bool) -> None:
        """Say SERVING or NOT_SERVING of `name`; without effect once the server drains."""
        self.checks.set(name, _SERVING if is_serving else _NOT_SERVING)


def serve_sync(
    settings: ServerSettings,
    register: Callable[[grpc.Server], None],
    *,
    service_names: Sequence[str] = (),
    warm: Callable[[], None] | None = None,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    health: Health | None = None,
) -> None:
    """Serve with threads until SIGTERM or SIGINT; call it in the main thread.

    `register` adds the servicers. `service_names` are the full names that health and reflection
    know, beside "" for the process; `health` may be told of more. `on_stop` runs however the
    function ends. Raises `ConfigError` when the port or the address file cannot be had.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gate = CallGate(is_open=False)
    with _StopSignals() as signals, ExitStack() as leaving:
        leaving.callback(on_stop or _nothing)
        pool = CallPool(settings.max_workers, settings.max_waiting)
        server = grpc.server(
            pool,
            interceptors=[SyncServerInterceptor(gate, pool=pool)],
            options=_options_of(settings),
            maximum_concurrent_rpcs=pool.room + MAX_REFUSALS_SYNC,
        )
        address = _bind(server, settings)
        checks = (health or Health()).checks
        _add_standard_services(server, checks, settings, service_names)
        for name in ("", *service_names):
            checks.set(name, _NOT_SERVING)
        register(server)
        server.start()
        leaving.callback(_leave_within, gate, LEAVE_S)
        leaving.callback(_drain_sync, server, checks, gate, settings)
        (warm or _nothing)()
        gate.open()
        for name in ("", *service_names):
            checks.set(name, _SERVING)
        signals.wake = _nothing
        with _announced(address, settings):
            (on_ready or _nothing)(address)
            signals.wait()
    _log.info("stopped")


def serve_aio(
    settings: ServerSettings,
    register: Callable[[grpc.aio.Server], None],
    *,
    service_names: Sequence[str] = (),
    warm: Callable[[], Awaitable[None]] | None = None,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    admission: Admission | None = None,
) -> None:
    """Serve on an event loop of its own until SIGTERM or SIGINT; see `serve_sync`.

    With an `admission`, each call of our own methods takes a place of it, or is refused.

    `register` runs inside the loop, so it may open channels and start tasks. `warm` must leave
    the loop free, or health and signals go unanswered while it runs.
    """

    async def live() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(signals.ear, signals.hear)
        # Raising from a handler would hit whatever task runs then, gRPC's own among them.
        starting = cast("asyncio.Task[None]", asyncio.current_task())
        signals.wake = partial(loop.call_soon_threadsafe, starting.cancel)
        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(on_stop or _nothing_async)
            server = grpc.aio.server(
                interceptors=[AioServerInterceptor(gate, admission=admission)],
                options=_options_of(settings),
                maximum_concurrent_rpcs=MAX_OPEN_CALLS_AIO,
            )
            address = _bind(server, settings)
            checks = grpc_health.aio.HealthServicer()
            _add_standard_services(server, checks, settings, service_names)
            for name in ("", *service_names):
                await checks.set(name, _NOT_SERVING)
            register(server)
            await server.start()
            leaving.callback(_leave_within, gate, LEAVE_S)
            leaving.push_async_callback(_drain_aio, server, checks, gate, settings)
            await (warm or _nothing_async)()
            gate.open()
            for name in ("", *service_names):
                await checks.set(name, _SERVING)
            signals.wake = partial(loop.call_soon_threadsafe, asked.set)
            with _announced(address, settings):
                (on_ready or _nothing)(address)
                await asked.wait()

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gate = CallGate(is_open=False)
    with _StopSignals() as signals, suppress(asyncio.CancelledError):
        asyncio.run(live())
    _log.info("stopped")


class _StopSignals:
    """SIGTERM and SIGINT: the first calls `wake`, the repetition of one kills the process.

    While `wake` is None the first ends the process where it stands, through its cleanups.

    Python runs handlers in the main thread only, and a signal that another thread received, or
    that came just before the main thread fell asleep in a lock, does not wake it. So the main
    thread must sleep on `ear`, which every signal writes to.
    """

    def __init__(self) -> None:
        self.wake: Callable[[], object] | None = None
        self.ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_StopSignals":
        signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        self.ear.close()
        self._mouth.close()

    def hear(self) -> None:
        """Sleep until a signal has been written; its handler runs on return."""
        self.ear.recv(1)

    def wait(self) -> None:
        """Sleep until SIGTERM or SIGINT came."""
        while not self._seen:
            self.hear()

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if signum in self._seen:
            os._exit(128 + signum)
        self._seen.add(signum)
        if len(self._seen) > 1:
            return
        if self.wake is None:
            raise SystemExit(0)
        self.wake()


class _HealthApart(grpc_health.HealthServicer):  # type: ignore[misc]  # its base publishes no types
    """Health of a sync server that answers while every worker is busy, and holds none of them."""

    def __init__(self, on_check: Callable[[str], object]) -> None:
        self._on_check = on_check
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="health")
        super().__init__(experimental_non_blocking=True, experimental_thread_pool=self._pool)
        type(self).Check.experimental_thread_pool = self._pool  # type: ignore[attr-defined]  # grpc reads it off the method

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's own name
        """Answer as the library does."""
        self._on_check(request.service)
        return super().Check(request, context)

    def _on_close_callback(self, *of_watch: Any) -> Callable[[], None]:
        """Forget a watch that ended, but not in gRPC's thread.

        The library would take its lock there, and holds it elsewhere while it waits for that
        thread to send: a watch that ended as another began stopped the whole server for good.
        """
        forget = super()._on_close_callback(*of_watch)

        def forget_elsewhere() -> None:
            with suppress(RuntimeError):  # the interpreter ends, and the pool with it
                self._pool.submit(forget)

        return forget_elsewhere


def _options_of(settings: ServerSettings) -> tuple[tuple[str, int], ...]:
    age_ms = int(settings.max_connection_age_s * 1000)
    return (*SERVER_OPTIONS, ("grpc.max_connection_age_ms", age_ms))


def _bind(server: grpc.Server | grpc.aio.Server, settings: ServerSettings) -> str:
    """Return the address bound, with the port that was picked for port 0.

    Only who has the port removes an address file that a killed process left behind.
    """
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        raise ConfigError(
            f"{PREFIX}LISTEN={settings.listen!r}: cannot listen there: the port is taken, or the "
            "host is not one of this machine's; allowed: a free port, or 0 to have one picked"
        ) from error
    if settings.address_file is not None:
        settings.address_file.unlink(missing_ok=True)
    return addresses.with_port(settings.listen, port)


def _add_standard_services(
    server: grpc.Server | grpc.aio.Server,
    checks: Any,
    settings: ServerSettings,
    service_names: Sequence[str],
) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if settings.reflection:
        known = (*service_names, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(known, server)


@contextmanager
def _announced(address: str, settings: ServerSettings) -> Iterator[None]:
    """Keep the address file in place while the block runs."""
    path = settings.address_file
    if path is not None:
        _write_whole(path, address)
    _log.info("serving on %s", address)
    try:
        yield
    finally:
        # A successor may already have written its own address there.
        if path is not None and path.exists() and path.read_text() == address:
            path.unlink()


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees all of `text` or nothing."""
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial_path.write_text(text)
        partial_path.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{PREFIX}ADDRESS_FILE='{path}': {error.strerror}; "
            "allowed: a file in an existing directory that this process may write to"
        ) from error


def _drain_sync(
    server: grpc.Server,
    checks: grpc_health.HealthServicer,
    gate: CallGate,
    settings: ServerSettings,
) -> None:
    _log.info("draining")
    checks.enter_graceful_shutdown()
    time.sleep(settings.settle_s)
    server.stop(settings.drain_s)
    for _ in _polls_until_idle(gate, settings.drain_s):
        time.sleep(POLL_S)
    server.stop(0).wait(1.0)  # ends health watchers, which would hold a stop(grace) to its end


async def _drain_aio(
    server: grpc.aio.Server,
    checks: grpc_health.aio.HealthServicer,
    gate: CallGate,
    settings: ServerSettings,
) -> None:
    _log.info("draining")
    await checks.enter_graceful_shutdown()
    await asyncio.sleep(settings.settle_s)
    stopping = asyncio.create_task(server.stop(settings.drain_s))
    for _ in _polls_until_idle(gate, settings.drain_s):
        await asyncio.sleep(POLL_S)
    await server.stop(0)
    await stopping


def _polls_until_idle(gate: CallGate, limit_s: float) -> Iterator[None]:
    """Yield once a poll until no call ran at `IDLE_POLLS` in a row, or `limit_s` has passed."""
    expires_at_s = time.monotonic() + limit_s
    idle_polls = 0
    while idle_polls < IDLE_POLLS and time.monotonic() < expires_at_s:
        idle_polls = 0 if gate.running else idle_polls + 1
        yield


def _leave_within(gate: CallGate, limit_s: float) -> None:
    """End the process by force after `limit_s`: it would wait for a stuck thread for ever."""
    if gate.running:
        _log.error("%d calls did not end in time and are given up", gate.running)
    watchdog = threading.Timer(limit_s, _leave_by_force)
    watchdog.daemon = True
    watchdog.start()


def _leave_by_force() -> None:
    _log.error("a thread is stuck; ending the process")
    logging.shutdown()
    os._exit(1)


def _nothing(*_: object) -> None:
    """Stand in for a hook that was not given."""


async def _nothing_async() -> None:
    """Stand in for a hook that was not given."""
