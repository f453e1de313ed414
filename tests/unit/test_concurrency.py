"""The adaptive limit on simulated servers, in virtual time."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

import pytest

from meshkit.concurrency import DEFAULT_RULES, AdaptiveLimit, LimitRules

SERVICE_S = 0.004
CAPACITY = 1 / SERVICE_S


@dataclass(frozen=True, slots=True)
class Phase:
    """Calls arrive at random, `rate` a second; the one server takes `service_s` for each of them,
    and `elsewhere_s` more pass without keeping it busy."""

    duration_s: float
    rate: float
    service_s: float = SERVICE_S
    elsewhere_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """What one stretch of time saw."""

    latencies_s: list[float] = field(default_factory=list)
    shed: int = 0
    limits: list[int] = field(default_factory=list)


class SimulatedServer:
    """Calls queue for one server in the order in which the limit let them in."""

    def __init__(self, seed: int = 1) -> None:
        self.now_s = 0.0
        self.limit = AdaptiveLimit(monotonic=lambda: self.now_s)
        self._random = random.Random(seed)  # noqa: S311  repeatable arrivals, no secret
        self._running: list[tuple[float, float]] = []
        self._free_at_s = 0.0

    def serve(self, phase: Phase) -> Seen:
        seen = Seen()
        ends_at_s = self.now_s + phase.duration_s
        while (arrives_at_s := self.now_s + self._random.expovariate(phase.rate)) < ends_at_s:
            self._finish_until(arrives_at_s, seen)
            self.now_s = arrives_at_s
            if len(self._running) >= self.limit.limit:
                seen.shed += 1
                continue
            self._free_at_s = max(self._free_at_s, arrives_at_s) + phase.service_s
            heapq.heappush(self._running, (self._free_at_s + phase.elsewhere_s, arrives_at_s))
        self._finish_until(ends_at_s, seen)
        self.now_s = ends_at_s
        return seen

    def _finish_until(self, until_s: float, seen: Seen) -> None:
        while self._running and self._running[0][0] <= until_s:
            self.now_s = self._running[0][0]
            in_flight = len(self._running)
            latency_s = self.now_s - heapq.heappop(self._running)[1]
            self.limit.observe(latency_s, in_flight)
            seen.latencies_s.append(latency_s)
            seen.limits.append(self.limit.limit)


def p99_s(latencies_s: Sequence[float]) -> float:
    return quantiles(latencies_s, n=100)[98]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("elsewhere_s", [0.0, 0.02])
@pytest.mark.parametrize("service_s", [0.002, 0.004, 0.010])
def test_three_times_too_many_calls_wait_little_and_keep_the_server_busy(
    service_s: float, elsewhere_s: float, seed: int
) -> None:
    server = SimulatedServer(seed)
    server.serve(Phase(5, 0.3 / service_s, service_s, elsewhere_s))
    server.serve(Phase(3, 3 / service_s, service_s, elsewhere_s))  # the limit settles

    seen = server.serve(Phase(20, 3 / service_s, service_s, elsewhere_s))

    assert len(seen.latencies_s) >= 0.95 * 20 / service_s
    assert p99_s(seen.latencies_s) < 2 * DEFAULT_RULES.target_s
    last = seen.limits[len(seen.limits) // 2 :]
    assert max(last) <= 2 * min(last)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("elsewhere_s", [0.0, 0.02])
def test_a_third_of_the_capacity_is_never_shed(elsewhere_s: float, seed: int) -> None:
    seen = SimulatedServer(seed).serve(Phase(120, 0.3 * CAPACITY, elsewhere_s=elsewhere_s))

    assert seen.shed == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shedding_ends_soon_after_the_overload_does(seed: int) -> None:
    server = SimulatedServer(seed)
    server.serve(Phase(20, 3 * CAPACITY))
    server.serve(Phase(1, 0.5 * CAPACITY))

    seen = server.serve(Phase(20, 0.5 * CAPACITY))

    assert seen.shed == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_overload_does_not_raise_the_latency_that_is_believed_for_good(seed: int) -> None:
    server = SimulatedServer(seed)
    server.serve(Phase(60, 3 * CAPACITY))
    server.serve(Phase(5, 0.3 * CAPACITY))

    latency_s = server.limit.latency_s
    seen = server.serve(Phase(3, 3 * CAPACITY))

    assert latency_s is not None
    assert latency_s < 2 * SERVICE_S
    assert server.limit.limit < 20
    assert p99_s(seen.latencies_s) < 2 * DEFAULT_RULES.target_s


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_that_became_slower_for_good_is_believed_within_seconds(seed: int) -> None:
    server = SimulatedServer(seed)
    server.serve(Phase(5, 500, 0.0001, elsewhere_s=0.018))
    first = server.serve(Phase(2, 500, 0.0001, elsewhere_s=0.072))
    server.serve(Phase(10, 500, 0.0001, elsewhere_s=0.072))

    seen = server.serve(Phase(10, 500, 0.0001, elsewhere_s=0.072))

    assert first.shed > 0
    assert seen.shed == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slower_server_below_its_capacity_hardly_sheds(seed: int) -> None:
    server = SimulatedServer(seed)
    server.serve(Phase(10, 0.2 * CAPACITY))
    server.serve(Phase(8, 0.2 * CAPACITY, 4 * SERVICE_S))

    seen = server.serve(Phase(30, 0.2 * CAPACITY, 4 * SERVICE_S))

    assert seen.shed <= 0.02 * len(seen.latencies_s)


def limit_after(
    windows: int, latency_s: Callable[[int], float], in_flight: int, rules: LimitRules
) -> AdaptiveLimit:
    now = [0.0]
    limit = AdaptiveLimit(rules, lambda: now[0])
    for window in range(windows):
        now[0] += rules.window_s
        for _ in range(rules.window_samples):
            limit.observe(latency_s(window), in_flight)
    return limit


def test_a_latency_without_contention_is_believed_at_once() -> None:
    now = [0.0]
    limit = AdaptiveLimit(monotonic=lambda: now[0])
    for latency_s, in_flight in [(0.01, 1), (0.03, 3), (0.05, 40)]:
        now[0] += 1.0
        for _ in range(DEFAULT_RULES.window_samples):
            limit.observe(latency_s, in_flight)
        now[0] += 1.0
        limit.observe(latency_s, in_flight)

    assert limit.limit > DEFAULT_RULES.initial


def test_a_limit_that_calls_come_near_grows_to_its_maximum_while_latency_stays() -> None:
    limit = limit_after(200, lambda _: 0.01, 256, DEFAULT_RULES)

    assert limit.limit == DEFAULT_RULES.maximum


def test_a_limit_that_calls_do_not_come_near_stays() -> None:
    limit = limit_after(200, lambda window: 0.01 * (1 + window % 7), 10, DEFAULT_RULES)

    assert limit.limit == DEFAULT_RULES.initial


def test_a_limit_never_falls_below_its_minimum() -> None:
    limit = limit_after(200, lambda window: 0.01 if window == 0 else 10.0, 256, DEFAULT_RULES)

    assert limit.limit == DEFAULT_RULES.minimum


def test_a_latency_above_the_bound_lowers_the_limit_though_it_never_was_lower() -> None:
    limit = limit_after(200, lambda _: 0.2, 256, DEFAULT_RULES)

    assert limit.limit == DEFAULT_RULES.minimum


def test_few_samples_change_nothing() -> None:
    now = [0.0]
    limit = AdaptiveLimit(monotonic=lambda: now[0])
    for _ in range(DEFAULT_RULES.window_samples - 1):
        now[0] += 1.0
        limit.observe(5.0, 100)

    assert limit.latency_s is None
    assert limit.limit == DEFAULT_RULES.initial


def test_a_short_time_changes_nothing() -> None:
    limit = AdaptiveLimit(monotonic=lambda: 0.0)
    for _ in range(1000):
        limit.observe(5.0, 100)

    assert limit.latency_s is None
    assert limit.limit == DEFAULT_RULES.initial


@pytest.mark.parametrize("in_flight", [1, 5])
def test_a_server_that_sees_its_calls_late_lets_in_no_more_than_it_works_on(in_flight: int) -> None:
    clock = [0.0]
    limit = AdaptiveLimit(monotonic=lambda: clock[0])
    for _ in range(4):
        for _ in range(DEFAULT_RULES.window_samples):
            limit.observe(0.010, in_flight, queued_s=0.150)
            clock[0] += DEFAULT_RULES.window_s / 5

    assert limit.limit <= max(DEFAULT_RULES.minimum, in_flight)


def test_a_latency_that_includes_a_wait_is_no_latency_without_contention() -> None:
    clock = [0.0]
    limit = AdaptiveLimit(monotonic=lambda: clock[0])

    def windows(count: int, latency_s: float, in_flight: int, queued_s: float) -> None:
        for _ in range(count * DEFAULT_RULES.window_samples):
            limit.observe(latency_s, in_flight, queued_s)
            clock[0] += DEFAULT_RULES.window_s / 5

    windows(4, 0.010, 1, 0.0)
    windows(4, 0.010, 1, 0.150)
    windows(20, 0.010, 40, 0.0)

    assert limit.limit > DEFAULT_RULES.initial
