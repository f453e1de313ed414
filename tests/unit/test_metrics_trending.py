"""What a trending source says of its reads, and of the age of what it read."""

from contextlib import ExitStack

from services.candidates.adapters.trending_metrics import TrendingMetrics
from tests.unit.metric_reading import ReadableMeter

AGE = "recmesh.source.data_age"


def ages(meter: ReadableMeter) -> list[float]:
    return [point.value for point in meter.read().points(AGE)]


def test_refreshes_are_counted_by_outcome_and_timed() -> None:
    meter = ReadableMeter()
    metrics = TrendingMetrics(meter)

    metrics.refreshed(0.1, has_failed=False)
    metrics.refreshed(0.1, has_failed=True)
    metrics.refreshed(0.1, has_failed=True)

    counted = meter.read().series("recmesh.trending.refreshes")
    assert sorted(counted.items(), key=lambda each: each[1]) == [
        (frozenset({("recmesh.outcome", "ok")}), 1),
        (frozenset({("recmesh.outcome", "failed")}), 2),
    ]
    (took,) = meter.read().points("recmesh.trending.refresh.duration")
    assert took.count == 3


def test_data_has_no_age_before_it_was_read_and_after_it_was_let_go() -> None:
    meter = ReadableMeter()
    metrics = TrendingMetrics(meter)
    age_s: list[float | None] = [None]

    with metrics.following(lambda: age_s[0]):
        unread = ages(meter)
        age_s[0] = 7.0
        read = ages(meter)

    assert (unread, read, ages(meter)) == ([], [7.0], [])


def test_of_two_bundles_the_one_read_last_counts_and_an_old_one_raises_no_alarm() -> None:
    meter = ReadableMeter()
    metrics = TrendingMetrics(meter)

    with ExitStack() as closing:
        closing.enter_context(metrics.following(lambda: 3.0))
        with metrics.following(lambda: 900.0):
            both = ages(meter)
        one = ages(meter)

    assert (both, one) == ([3.0], [3.0])
