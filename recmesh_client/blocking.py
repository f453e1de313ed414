"""The client for programs without an event loop: the asynchronous one on a thread of its own."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from recmesh_client.aio import AsyncRecommendationClient
from recmesh_client.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[AsyncRecommendationClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["RecommendationClient", P], T]:
    @functools.wraps(method)
    def call(self: "RecommendationClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._on_loop(lambda client: method(client, *args, **kwargs))

    return call


class RecommendationClient:
    """Asks a recmesh gateway for recommendations; safe to share between threads.

    Takes what `AsyncRecommendationClient` takes and behaves as it does. Make one for the life of
    the program and close it, as a context manager or with `close()`; never use it across a fork.
    A program that runs an event loop should use `AsyncRecommendationClient` there.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        default_timeout_s: float | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        extra_channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        async def connect() -> AsyncRecommendationClient:
            return AsyncRecommendationClient(
                targets,
                default_timeout_s=default_timeout_s,
                credentials=credentials,
                extra_channel_options=extra_channel_options,
            )

        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_without_poller_noise)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="recmesh-client", daemon=True
        )
        self._thread.start()
        self._client: AsyncRecommendationClient | None = None
        try:
            self._client = self._result_of(connect())
        except BaseException:
            self._stop_loop()
            raise

    recommend = _blocking(AsyncRecommendationClient.recommend)
    wait_until_ready = _blocking(AsyncRecommendationClient.wait_until_ready)

    def close(self) -> None:
        """Close the connections and end the thread; calls in flight fail with Unavailable."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            self._result_of(_close_and_settle(client))
            self._stop_loop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _on_loop(self, call: Callable[[AsyncRecommendationClient], Coroutine[Any, Any, T]]) -> T:
        with self._lock:  # no call may slip in behind close(), where nothing would answer it
            if self._client is None:
                raise Unavailable("the client is closed")
            future = asyncio.run_coroutine_threadsafe(call(self._client), self._loop)
        return future.result()

    def _result_of(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _close_and_settle(client: AsyncRecommendationClient) -> None:
    """Close the client and let the calls that this cuts off tell their threads."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    await client.close()
    await asyncio.gather(*calls, return_exceptions=True)


def _without_poller_noise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # grpcio before 1.80 wakes every event loop of the process for each completion, and all but one
    # report that there was nothing to read (grpc/grpc#25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
