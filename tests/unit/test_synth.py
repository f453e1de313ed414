"""The synthetic world: repeatable, obeying its own rules, and worth learning from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from pipeline.log_directory import EVENTS_FILE, ITEMS_FILE, LogSummary, read_log_summary
from pipeline.synth.generate import synthesise_log
from pipeline.synth.release_buckets import ReleaseBuckets
from pipeline.synth.settings import END_S, SynthSettings, SynthSettingsError

SETTINGS = SynthSettings(users=1_500, items=2_000, days=60, seed=11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "log"
    synthesise_log(SETTINGS, out)
    return out


@pytest.fixture(scope="module")
def tables(world: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.read_parquet(str(world / EVENTS_FILE)).create_view("events")
        connection.read_parquet(str(world / ITEMS_FILE)).create_view("items")
        yield connection


def one(tables: duckdb.DuckDBPyConnection, query: str) -> Any:
    return tables.execute(query).fetchall()[0][0]


def content_hash(log: Path) -> str:
    names = sorted(path.name for path in log.iterdir())
    return hashlib.sha256(b"".join((log / name).read_bytes() for name in names)).hexdigest()


def test_equal_settings_give_equal_bytes(tmp_path: Path, world: Path) -> None:
    synthesise_log(SETTINGS, tmp_path / "again")

    assert content_hash(tmp_path / "again") == content_hash(world)


def test_another_seed_gives_another_world(tmp_path: Path, world: Path) -> None:
    other = SynthSettings(users=1_500, items=2_000, days=60, seed=12)

    synthesise_log(other, tmp_path / "other")

    assert content_hash(tmp_path / "other") != content_hash(world)


def test_the_summary_tells_the_size_of_the_world(world: Path) -> None:
    summary: LogSummary = read_log_summary(world)

    assert (summary.format, summary.order, summary.rejected) == ("synth", "time", {})
    assert summary.catalogue_items == 2_000
    assert 1_450 <= summary.users <= 1_500
    assert 40 <= summary.events / summary.users <= 60


def test_events_per_user_sets_the_mean(tmp_path: Path) -> None:
    settings = SynthSettings(users=400, items=500, days=60, seed=3, events_per_user=12)

    summary = synthesise_log(settings, tmp_path / "log")

    assert 10 <= summary.events / summary.users <= 14


def test_no_play_is_before_its_tracks_release(tables: duckdb.DuckDBPyConnection) -> None:
    early = "SELECT count(*) FROM events JOIN items USING (item_id) WHERE timestamp < released"

    assert one(tables, early) == 0
    assert one(tables, "SELECT count(*) FROM items WHERE released > 1767225600 - 60 * 86400") > 200


def test_no_track_is_played_outside_its_markets(tables: duckdb.DuckDBPyConnection) -> None:
    limited = "SELECT count(*) FROM events JOIN items USING (item_id) WHERE len(markets) > 0"

    assert one(tables, limited) > 500
    assert one(tables, limited + " AND NOT list_contains(markets, market)") == 0


def test_every_event_is_inside_the_log_and_each_user_has_one_market(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    assert one(tables, "SELECT max(timestamp) FROM events") < END_S
    assert one(tables, "SELECT min(timestamp) FROM events") >= SETTINGS.start_s
    homes = "SELECT count(DISTINCT market) FROM events GROUP BY user_id ORDER BY 1 DESC"
    assert one(tables, homes) == 1


def test_a_users_plays_never_overlap(tables: duckdb.DuckDBPyConnection) -> None:
    shortest_gap_s = """
    SELECT min(gap_s) FROM (
        SELECT timestamp - lag(timestamp) OVER (PARTITION BY user_id ORDER BY position) AS gap_s
        FROM events)
    """

    assert one(tables, shortest_gap_s) >= 130


def test_reuploads_share_title_and_artist_and_are_played_less(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    tables.execute("""
    CREATE TEMP TABLE twins AS
    SELECT title, artist, list(plays ORDER BY released) AS plays
    FROM (SELECT item_id, title, artist, released, count(timestamp) AS plays
          FROM items LEFT JOIN events USING (item_id) GROUP BY ALL)
    GROUP BY title, artist HAVING count(*) > 1
    """)

    assert one(tables, "SELECT sum(len(plays) - 1) FROM twins") == 40
    assert one(tables, "SELECT sum(list_sum(plays[2:])) / sum(list_sum(plays)) FROM twins") < 0.35


def test_popularity_and_activity_have_heavy_tails(tables: duckdb.DuckDBPyConnection) -> None:
    share = """
    SELECT sum(plays) FILTER (place <= 0.1) / sum(plays) FROM (
        SELECT count(*) AS plays, percent_rank() OVER (ORDER BY count(*) DESC) AS place
        FROM events GROUP BY {column})
    """

    assert one(tables, share.format(column="item_id")) > 0.3
    assert one(tables, share.format(column="user_id")) > 0.3


def test_what_follows_a_track_tells_more_than_popularity(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    # Half of the users teach the ten usual successors of each track; the others are the test.
    tables.execute("""
    CREATE TEMP TABLE steps AS
    SELECT user_id[-1]::INTEGER % 2 = 0 AS teaches, item_id,
           lead(item_id) OVER (PARTITION BY user_id ORDER BY position) AS next
    FROM events;
    CREATE TEMP TABLE taught AS
    SELECT item_id, unnest(list(next ORDER BY times DESC, next)[:10]) AS next
    FROM (SELECT item_id, next, count(*) AS times FROM steps WHERE teaches GROUP BY ALL)
    GROUP BY item_id;
    CREATE TEMP TABLE popular AS
    SELECT item_id AS next FROM events GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT 10;
    CREATE TEMP TABLE tested AS
    SELECT item_id, next FROM steps WHERE NOT teaches AND next IS NOT NULL
    """)

    tested = one(tables, "SELECT count(*) FROM tested")
    by_transition = one(
        tables, "SELECT count(*) FROM tested SEMI JOIN taught USING (item_id, next)"
    )
    by_popularity = one(tables, "SELECT count(*) FROM tested SEMI JOIN popular USING (next)")

    assert by_transition / tested > 3 * by_popularity / tested


def test_listeners_come_back_to_tracks(tables: duckdb.DuckDBPyConnection) -> None:
    repeats = "SELECT 1 - count(DISTINCT (user_id, item_id)) / count(*) FROM events"

    assert 0.2 < one(tables, repeats) < 0.5


def test_progress_ends_at_one(tmp_path: Path) -> None:
    seen: list[float] = []

    synthesise_log(SynthSettings(5, 100, 2, 0), tmp_path / "log", on_progress=seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("users", "items", "days", "seed"), [(1, 100, 1, 0), (3, 150, 1, 5), (40, 100, 3650, 2**63 - 1)]
)
def test_the_smallest_worlds_are_made(
    tmp_path: Path, users: int, items: int, days: int, seed: int
) -> None:
    summary = synthesise_log(SynthSettings(users, items, days, seed), tmp_path / "log")

    assert summary.events > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 0}, "users must be 1 to 2,000,000, not 0"),
        ({"items": 1_000_001}, "items must be 100 to 1,000,000, not 1,000,001"),
        ({"days": 0}, "days must be 1 to 3,650, not 0"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"events_per_user": float("nan")}, "events-per-user must be 1 to 1,000, not nan"),
        ({"users": 2_000_000, "events_per_user": 500}, "at most 200,000,000, not 1,000,000,000"),
    ],
)
def test_a_setting_outside_its_limits_is_named(change: dict[str, Any], message: str) -> None:
    settings = {"users": 10, "items": 100, "days": 10, "seed": 0} | change

    with pytest.raises(SynthSettingsError, match=message):
        SynthSettings(**settings)


def test_buckets_draw_released_items_of_the_bucket_in_proportion_to_weight() -> None:
    rng = np.random.default_rng(5)
    bucket = rng.integers(0, 4, 60)
    released_s = rng.integers(0, 100, 60)
    weight = rng.random(60)
    buckets = ReleaseBuckets.of(bucket, released_s=released_s, weight=weight)
    asked = rng.integers(0, 5, 40_000)  # bucket 4 has no items
    at_s = np.full(40_000, 50)

    drawn = buckets.draw(rng, asked, at_s=at_s, window_s=np.zeros_like(at_s))

    assert np.array_equal(drawn < 0, asked == 4)
    found = drawn >= 0
    assert np.array_equal(bucket[drawn[found]], asked[found])
    assert released_s[drawn[found]].max() <= 50
    counts = np.bincount(drawn[asked == 1], minlength=60)
    expected = np.where((bucket == 1) & (released_s <= 50), weight, 0)
    assert counts / counts.sum() == pytest.approx(expected / expected.sum(), abs=0.02)


def test_a_window_prefers_what_came_out_inside_it() -> None:
    rng = np.random.default_rng(5)
    buckets = ReleaseBuckets.of(
        np.zeros(3, dtype=np.int64), released_s=np.array([10, 20, 30]), weight=np.ones(3)
    )
    asked = np.zeros(300, dtype=np.int64)
    at_s, window_s = np.repeat([25, 25, 9], 100), np.repeat([6, 2, 5], 100)

    drawn = buckets.draw(rng, asked, at_s=at_s, window_s=window_s).reshape(3, 100)

    assert set(drawn[0].tolist()) == {1}
    assert set(drawn[1].tolist()) == {0, 1}
    assert set(drawn[2].tolist()) == {-1}
