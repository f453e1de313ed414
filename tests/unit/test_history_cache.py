"""Histories in the cache: bounded in number and in age."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.adapters.history_cache import Found, HistoryCache
from tests.unit.gateway_world import CASES

NOTHING = Found(None)


@dataclass(slots=True)
class Watch:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_was_put_is_there_until_it_is_too_old() -> None:
    watch = Watch()
    cache = HistoryCache(10, 30.0, watch)
    cache.put(1, NOTHING)

    watch.now_s = 29.9
    young = cache.get(1)
    watch.now_s = 30.0

    assert young is NOTHING
    assert cache.get(1) is None
    assert len(cache) == 0


def test_asking_makes_nothing_younger() -> None:
    watch = Watch()
    cache = HistoryCache(10, 30.0, watch)
    cache.put(1, NOTHING)

    for watch.now_s in (10.0, 20.0, 29.0):
        assert cache.get(1) is NOTHING
    watch.now_s = 31.0

    assert cache.get(1) is None


def test_whoever_was_asked_for_least_lately_goes_first() -> None:
    cache = HistoryCache(2, 30.0, Watch())
    cache.put(1, NOTHING)
    cache.put(2, NOTHING)
    cache.get(1)

    cache.put(3, NOTHING)

    assert cache.get(2) is None
    assert cache.get(1) is cache.get(3) is NOTHING


def test_a_cache_that_may_hold_nothing_for_a_moment_holds_nothing() -> None:
    cache = HistoryCache(2, 0.0, Watch())

    cache.put(1, NOTHING)

    assert cache.get(1) is None


@CASES
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200), st.integers(1, 5))
def test_it_never_holds_more_than_it_may(steps: list[tuple[bool, int]], most: int) -> None:
    cache = HistoryCache(most, 30.0, Watch())

    for puts, user_key in steps:
        if puts:
            cache.put(user_key, NOTHING)
        else:
            cache.get(user_key)
        assert len(cache) <= most
