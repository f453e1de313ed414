"""The client for programs that run an event loop."""

import asyncio
import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc
from recmesh.gateway.v1 import gateway_pb2_grpc

from recmesh_client.channel import channel_options, grpc_target
from recmesh_client.errors import Unavailable
from recmesh_client.results import Recommendation
from recmesh_client.wire import error_from, recommendation_from, request_of

if TYPE_CHECKING:  # the asynchronous stub exists for type checkers only
    from recmesh.gateway.v1.gateway_pb2_grpc import RecommendationServiceAsyncStub

# What the gateway allows itself for each surface (protos/recmesh/gateway/v1/gateway.proto).
SURFACE_BUDGETS_S = {"": 0.150, "home": 0.150, "batch": 5.0}
# The gateway's budget has to end before ours, or a late source would cost the whole answer: one
# round trip inside a region and a busy event loop.
NETWORK_MARGIN_S = 0.050


class AsyncRecommendationClient:
    """Asks a recmesh gateway for recommendations; safe to share between tasks of one event loop.

    Make one for the life of the program, inside a running event loop, and close it: as a context
    manager or with `close()`. Connections are made at the first call; `wait_until_ready` makes
    them earlier.

    `targets` is one gateway address (`host:port`, `dns:///name:port`) or several (`IP:PORT` each);
    calls go round all that are healthy. `default_timeout_s` replaces the surface's own timeout
    (200 ms for "home", 5.05 s for "batch"). `credentials` turns TLS on. `extra_channel_options` are
    gRPC channel arguments that win over ours.

    Raises ValueError for an unusable address or timeout, RuntimeError without a running loop.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        default_timeout_s: float | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        extra_channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        asyncio.get_running_loop()  # a channel belongs to the loop that it is made in
        self._target = grpc_target(targets)
        self._default_timeout_s = _checked("default_timeout_s", default_timeout_s)
        self._is_closed = False
        options = (*channel_options(), *extra_channel_options)
        self._channel = (
            grpc.aio.insecure_channel(self._target, options)
            if credentials is None
            else grpc.aio.secure_channel(self._target, credentials, options)
        )
        self._stub = cast(
            "RecommendationServiceAsyncStub",
            gateway_pb2_grpc.RecommendationServiceStub(self._channel),
        )

    async def recommend(
        self,
        user_id: str = "",
        *,
        page_size: int = 20,
        surface: str = "",
        market: str = "",
        seed_item_ids: Sequence[str] = (),
        exclude_item_ids: Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> Recommendation:
        """Return one slate for a user, best item first.

        An empty `user_id` is an anonymous caller; an unknown user is not an error. `page_size` is
        at most 200, and 0 means 20. `surface` is "home" (also when empty) or "batch". `market` is
        ISO 3166-1 alpha-2, upper case. `seed_item_ids` were just played, newest last, at most 50;
        `exclude_item_ids` are never answered, at most 1,000. `metadata` is sent along as it is,
        such as `[("traceparent", ...)]`.

        `timeout_s` bounds the whole call with its retry. Prefer it to cancelling the task: gRPC
        leaks about 1 KB for each call that is cancelled and none for one that times out.

        Raises a `RecommendError`, ValueError for an unusable timeout, and TypeError for a value of
        a wrong type.
        """
        request = request_of(
            {
                "user_id": user_id,
                "page_size": page_size,
                "surface": surface,
                "market": market,
                "seed_item_ids": seed_item_ids,
                "exclude_item_ids": exclude_item_ids,
            }
        )
        timeout_s = _checked("timeout_s", timeout_s) or self._timeout_s(surface)
        self._check_open()
        try:
            response = await self._stub.Recommend(
                request, timeout=timeout_s, metadata=tuple(metadata)
            )
        except grpc.aio.AioRpcError as exc:
            raise error_from(exc) from exc
        except asyncio.CancelledError:
            raise self._meaning_of_cancellation() from None
        return recommendation_from(response)

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Connect, and wait until a gateway says that it is serving.

        Raises Unavailable when none does within `timeout_s`, ValueError for an unusable timeout.
        """
        self._check_open()
        try:
            async with asyncio.timeout(_checked("timeout_s", timeout_s)):
                await self._channel.channel_ready()
        except TimeoutError:
            raise Unavailable(
                f"no gateway at {self._target} was ready within {timeout_s:g} s"
            ) from None
        except grpc.aio.UsageError:  # closed while waiting
            self._check_open()
            raise

    async def close(self) -> None:
        """Close the connections; calls in flight fail with Unavailable. Again does nothing."""
        self._is_closed = True
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _timeout_s(self, surface: str) -> float:
        if self._default_timeout_s is not None:
            return self._default_timeout_s
        # The gateway refuses an unknown surface; that answer needs no more time than "home".
        return SURFACE_BUDGETS_S.get(surface, SURFACE_BUDGETS_S["home"]) + NETWORK_MARGIN_S

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"the client of {self._target} is closed")

    def _meaning_of_cancellation(self) -> BaseException:
        """Tell a task that was cancelled from a call that `close()` cut off."""
        task = asyncio.current_task()
        if self._is_closed and not (task and task.cancelling()):
            return Unavailable(f"the client of {self._target} was closed during the call")
        return asyncio.CancelledError()


def _checked(name: str, timeout_s: float | None) -> float | None:
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise ValueError(f"{name}: must be a finite number of seconds above 0, is {timeout_s}")
    return timeout_s
