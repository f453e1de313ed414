"""The time that one request may take, and what of it each outgoing call gets.

A deadline does not pass from an incoming gRPC call to the calls that its
handler makes, so every outgoing call takes its `timeout=` from a `Budget`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """When one request must be answered, on the monotonic clock; made when it arrives."""

    expires_at_s: float
    monotonic: Callable[[], float]

    @classmethod
    def start(
        cls,
        limit_s: float,
        caller_remaining_s: float | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> "Budget":
        """Start now with `limit_s`, or with what the caller has left when that is less.

        `caller_remaining_s` is the call context's `time_remaining()`. A caller without deadline
        shows as None on aio and as centuries on a sync server; both leave `limit_s`.
        """
        allowed_s = limit_s if caller_remaining_s is None else min(limit_s, caller_remaining_s)
        return cls(monotonic() + allowed_s, monotonic)

    def remaining_s(self) -> float:
        """Return the seconds left, never below 0."""
        return max(self.expires_at_s - self.monotonic(), 0.0)
