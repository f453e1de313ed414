"""How many calls a server may work on at once, learnt from its own latency.

How this works. Calls beyond what a server gets through do not make it faster, they wait: latency
then grows in proportion to the calls in flight. So the ratio of the latency that a call should
have (`target`) to the one it has (`current`) says by how much there are too many. Samples come in
windows. After each the limit is multiplied by that ratio, and a headroom of its square root is
added so that it can find more; where both cancel out, it rests. The target is a multiple of the
`baseline`, the latency without contention, and never above a bound that the caller's deadline
gives. The baseline falls at once and rises slowly: a server that became slower for good is
believed after a while, a queue is not. A limit that calls did not come near is left alone.

Sources: the gradient of latency and the square root are Netflix's Gradient2
(https://github.com/Netflix/concurrency-limits); windows and a baseline measured at low
concurrency are Envoy's adaptive concurrency filter
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter);
comparing with an uncontended latency is TCP Vegas (Brakmo and Peterson, 1995). The absolute bound
is our own.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRules:
    """Constants of an `AdaptiveLimit`, tuned on a simulated queue and a loaded gateway."""

    initial: int = 32
    """Calls allowed at the start."""
    minimum: int = 4
    """Calls always allowed: fewer would leave a server idle that waits for others."""
    maximum: int = 256
    """Calls allowed at most: what each holds in memory is bounded."""
    window_s: float = 0.25
    """Seconds that a window lasts at least."""
    window_samples: int = 10
    """Samples that a window has at least."""
    uncontended: int = 3
    """Calls in flight up to which a window shows the latency without contention."""
    tolerance: float = 2.0
    """Latency aimed at, in baselines."""
    target_s: float = 0.075
    """Latency aimed at at most, in seconds: half of what the most hurried surface allows."""
    drift: float = 1.05
    """Factor by which a window at most raises the baseline: fourfold takes 7 s."""
    smoothing: float = 0.5
    """Share of a new limit that one window applies."""
    queued_s: float = 0.010
    """Wait of calls before they are seen beyond which the server is behind: a busy core's noise."""


DEFAULT_RULES = LimitRules()
LOWEST_GRADIENT = 0.5  # one window of outliers halves the limit at most


class AdaptiveLimit:
    """A limit of calls in flight that follows latency; for one thread."""

    def __init__(
        self,
        rules: LimitRules = DEFAULT_RULES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._monotonic = monotonic
        self._limit = float(rules.initial)
        self._baseline_s = math.inf
        self._current_s: float | None = None
        self._samples_s: list[float] = []
        self._queued_s: list[float] = []
        self._most_in_flight = 0
        self._opened_at_s = monotonic()

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return int(self._limit)

    @property
    def latency_s(self) -> float | None:
        """Median latency of the last window in seconds, None before the first."""
        return self._current_s

    def observe(self, latency_s: float, in_flight: int, queued_s: float = 0.0) -> None:
        """Take the latency of one call, and how many were in flight with it as it ended.

        `queued_s` is how long calls wait now before they are seen; their callers wait for both.
        """
        self._samples_s.append(latency_s + queued_s)
        self._queued_s.append(queued_s)
        self._most_in_flight = max(self._most_in_flight, in_flight)
        now_s = self._monotonic()
        is_long_enough = now_s - self._opened_at_s >= self._rules.window_s
        if is_long_enough and len(self._samples_s) >= self._rules.window_samples:
            self._close_window()
            self._opened_at_s = now_s

    def _close_window(self) -> None:
        current_s = median(self._samples_s)
        is_behind = median(self._queued_s) > self._rules.queued_s
        most_in_flight = self._most_in_flight
        self._samples_s.clear()
        self._queued_s.clear()
        self._most_in_flight = 0
        self._current_s = current_s
        self._baseline_s = self._next_baseline_s(current_s, most_in_flight, is_behind)
        self._limit = self._next_limit(current_s, most_in_flight, is_behind)

    def _next_baseline_s(self, current_s: float, most_in_flight: int, is_behind: bool) -> float:
        if most_in_flight <= self._rules.uncontended and not is_behind:
            return current_s
        return min(current_s, self._baseline_s * self._rules.drift)

    def _next_limit(self, current_s: float, most_in_flight: int, is_behind: bool) -> float:
        rules = self._rules
        if most_in_flight < self._limit / 2 and not is_behind:
            return self._limit
        # A server that is behind gets through no more than it works on, whatever the limit.
        working_on = min(self._limit, most_in_flight) if is_behind else self._limit
        target_s = min(rules.tolerance * self._baseline_s, rules.target_s)
        gradient = 1.0 if current_s <= target_s else max(target_s / current_s, LOWEST_GRADIENT)
        aimed_at = working_on * gradient + math.sqrt(working_on)
        share = 1.0 if is_behind else rules.smoothing
        smoothed = self._limit + share * (aimed_at - self._limit)
        return min(max(smoothed, rules.minimum), rules.maximum)
