"""Nothing that comes after a cut is in a table, a feature or a candidate before it, bit for bit.

Two logs are alike before a cut and have nothing in common after it. Whatever training knows at
the cut must be the same bytes on both.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cuts import Cut, Cuts, cut_log
from pipeline.event_log import EventLog, Events, read_event_log
from pipeline.offline_mesh import OfflineMesh, ranking_query
from pipeline.recipe import Recipe
from pipeline.tables import Tables, build_tables
from services.candidates.adapters.annoy_index import FILE as ANNOY
from services.ranker.domain.features import SOURCES, assemble
from signals.bundle import NO_MARKET
from tests.integration.small_world import write_world

RECIPE = Recipe(cuts=3, time_cuts=4)
USERS = 40
"""Whose candidates and features are compared."""
SEED = 5

Prints = Mapping[str, str]
"""The SHA-256 of everything that training knows at a cut, by name."""


@dataclass(frozen=True, slots=True)
class Futures:
    """One past with two futures."""

    log: EventLog
    other: EventLog
    choose: Callable[[Cuts], Cut]

    def cuts(self) -> tuple[Cut, Cut]:
        one, other = (cut_log(each, seed=SEED, recipe=RECIPE) for each in self.logs())
        return self.choose(one), self.choose(other)

    def wholes(self) -> tuple[Cut, Cut]:
        one, other = (cut_log(each, seed=SEED, recipe=RECIPE) for each in self.logs())
        return one.whole, other.whole

    def logs(self) -> tuple[EventLog, EventLog]:
        return self.log, self.other


def another_future(log: EventLog, is_after: NDArray[np.bool_]) -> EventLog:
    """Return the log with other plays in place of those after the cut.

    Of other items and markets; with times also at other times, by other users and fewer of them.
    The newest time stays: cuts are counted back from it.
    """
    random = np.random.default_rng(SEED)
    before, after = log.events.where(~is_after), log.events.where(is_after)
    count = len(after)
    replaced = replace(
        after,
        rows=(
            (after.rows + random.integers(1, len(log.catalogue), count)) % len(log.catalogue)
        ).astype(np.uint32),
        markets=np.full(count, NO_MARKET, dtype=np.uint16),
    )
    if log.order == "time":
        first_s, newest_s = int(after.times_s.min()), int(after.times_s.max())
        times_s = random.integers(first_s, newest_s + 1, count)
        times_s[0] = newest_s
        users = random.integers(0, len(log.user_keys), count).astype(np.uint32)
        replaced = replace(replaced, users=users, times_s=times_s).where(
            np.arange(count) < count * 0.8
        )
    return replace(log, events=joined(before, replaced))


def joined(before: Events, after: Events) -> Events:
    users = np.concatenate([before.users, after.users])
    times_s = np.concatenate([before.times_s, after.times_s])
    order = np.lexsort((times_s, users))
    return Events(
        users=users[order],
        rows=np.concatenate([before.rows, after.rows])[order],
        times_s=times_s[order],
        markets=np.concatenate([before.markets, after.markets])[order],
    )


def columns_of(events: Events) -> tuple[NDArray[np.generic], ...]:
    return events.users, events.rows, events.times_s, events.markets


def is_after_cut(log: EventLog, cut: Cut) -> NDArray[np.bool_]:
    """Return which plays of the log the cut does not know."""
    if log.order == "time":
        return log.events.times_s >= cut.as_of_s
    known = np.bincount(cut.before.users, minlength=len(log.user_keys))
    starts = np.searchsorted(log.events.users, np.arange(len(log.user_keys)))
    return np.arange(len(log.events)) - starts[log.events.users] >= known[log.events.users]


CUTS: Mapping[str, Callable[[Cuts], Cut]] = {
    "the test cut": lambda cuts: cuts.test,
    "the newest training cut": lambda cuts: cuts.training[0],
    "the oldest training cut": lambda cuts: cuts.training[-1],
}


@pytest.fixture(scope="module")
def timed_log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return read_event_log(write_world(tmp_path_factory.mktemp("world") / "log"))


@pytest.fixture(params=["time", "position"])
def log(request: pytest.FixtureRequest, timed_log: EventLog) -> EventLog:
    """The world's log, and the same with the order of each user's plays alone."""
    if request.param == "time":
        return timed_log
    nowhen = replace(timed_log.events, times_s=np.zeros_like(timed_log.events.times_s))
    return replace(timed_log, order="position", events=nowhen)


def futures_of(log: EventLog, choose: Callable[[Cuts], Cut]) -> Futures:
    cut = choose(cut_log(log, seed=SEED, recipe=RECIPE))
    return Futures(log, another_future(log, is_after_cut(log, cut)), choose)


def tables_of(log: EventLog, events: Events, as_of_s: int) -> Tables:
    return build_tables(events, log, as_of_s=as_of_s, seed=SEED, recipe=Recipe(sources=SOURCES))


def prints(tables: Tables, directory: Path) -> Prints:
    """Return what is known at a cut: every file of its tables, and of some users the rest."""
    directory.mkdir()
    mesh = OfflineMesh.over(tables, directory)
    known = {path.name: sha256(path.read_bytes()) for path in sorted(directory.iterdir())}
    keys = tables.histories.user_keys
    candidates, features = hashlib.sha256(), hashlib.sha256()
    for key in keys[np.linspace(0, len(keys) - 1, USERS).astype(int)].tolist():
        history = mesh.history(key)
        found = mesh.candidates(history, mesh.ask_sources(history))
        query = ranking_query(found, history)
        for column in query.sources.values():
            candidates.update(column.ranks.tobytes() + column.scores.tobytes())
        candidates.update(found.rows.tobytes())
        features.update(assemble(query, mesh.item_tables()).tobytes())
    return {
        **known,
        "facts": repr(tables.facts),
        "candidates": candidates.hexdigest(),
        "features": features.hexdigest(),
    }


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def differing(one: Prints, other: Prints) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("name", CUTS)
def test_another_future_has_the_same_past_and_nothing_else(log: EventLog, name: str) -> None:
    futures = futures_of(log, CUTS[name])

    one, other = futures.cuts()

    assert one.as_of_s == other.as_of_s
    for mine, theirs in zip(columns_of(one.before), columns_of(other.before), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert 0 < len(one.before) < len(log.events)
    assert len(one.after)
    assert len(other.after)
    if log.order == "time":
        assert len(futures.other.events) < len(log.events)
    else:
        assert (one.after.rows != other.after.rows).all()


@pytest.mark.parametrize("name", CUTS)
def test_what_comes_after_a_cut_changes_no_bit_of_what_is_known_at_it(
    log: EventLog, name: str, tmp_path: Path
) -> None:
    futures = futures_of(log, CUTS[name])

    known = [
        prints(tables_of(one, cut.before, cut.as_of_s), tmp_path / str(number))
        for number, (one, cut) in enumerate(zip(futures.logs(), futures.cuts(), strict=True))
    ]

    assert len(known[0]) > 35
    assert differing(*known) == set()


BOTH = {"candidates", "features"}
SHOWN_BY: Mapping[str, set[str]] = {
    "embedding": {"Embedding.vectors.npy", "Embedding.gram.npy", ANNOY, *BOTH},
    "neighbours": {"Neighbours.rows.npy", "Neighbours.scores.npy", *BOTH},
    "successors": {"Successors.weights.npy", *BOTH},
    "transitions": {"Transitions.weights.npy", "features"},
    "companions": {"Companions.weights.npy", *BOTH},
    "popularity": {"Popularity.rows.npy"},
    "stats": {"ItemStats.share.npy", "ItemStats.share_rank.npy", "features"},
    "histories": {"Histories.rows.npy", "Histories.offsets.npy", *BOTH},
    "trends": {"TrendCounts.rows.npy", "TrendCounts.counts.npy", *BOTH},
}
"""What differs, at least, when one table was built on the whole log."""


@pytest.fixture(scope="module")
def sound_and_leaking(timed_log: EventLog) -> list[tuple[Tables, Tables]]:
    """Return for either future the tables as of the cut, and those of the whole log."""
    futures = futures_of(timed_log, CUTS["the test cut"])
    return [
        (tables_of(log, cut.before, cut.as_of_s), tables_of(log, whole.before, whole.as_of_s))
        for log, cut, whole in zip(futures.logs(), futures.cuts(), futures.wholes(), strict=True)
    ]


@pytest.mark.parametrize("table", SHOWN_BY)
def test_a_table_that_was_built_on_the_whole_log_is_found(
    table: str, sound_and_leaking: list[tuple[Tables, Tables]], tmp_path: Path
) -> None:
    known = []
    for number, (sound, leaking) in enumerate(sound_and_leaking):
        mixed = replace(sound, **{table: getattr(leaking, table)})
        known.append(prints(mixed, tmp_path / str(number)))

    found = differing(*known)
    assert SHOWN_BY[table] <= found
    named = {
        name for name in found - BOTH if not name.startswith(type(getattr(mixed, table)).__name__)
    }
    assert named <= {ANNOY}


def test_every_table_that_plays_make_is_watched() -> None:
    of_catalogue = {"facts", "keys", "texts", "traits", "genre_names", "rights", "indexed"}

    assert set(Tables.__slots__) == of_catalogue | set(SHOWN_BY)
