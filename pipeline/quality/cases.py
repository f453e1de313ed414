"""Cases: the users of a log, and what they played after a bundle's tables end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import EvaluationError
from pipeline.event_log import EventLog, Events
from pipeline.offline_mesh import targets_by_user
from pipeline.tables import Tables
from signals.bundle import Histories, ItemKeys


@dataclass(frozen=True, slots=True)
class Case:
    """One user to ask for, and what came next."""

    user_key: int
    targets: NDArray[np.uint32]
    """Rows of the new items, each once, at least one. New: the bundle's history has them not. From
    the number of items on they stand for items that the bundle does not know."""


def cases_after(tables: Tables, log: EventLog) -> tuple[Case, ...]:
    """Return the users who played something new after the tables, in key order.

    In a log with times that is everything from the tables' end on; in one with positions what
    stands behind a user's history; in one without order what is not in it. Raises EvaluationError
    for a log that does not go on where the bundle ends.
    """
    facts = tables.facts
    if log.order != facts.order:
        raise EvaluationError(
            f"the log's order is {log.order!r} and the bundle's {facts.order!r}: "
            "evaluate against the log that it was trained on, or a longer one"
        )
    later = _later(tables, log)
    _refuse_strangers(tables, log, later)
    rows = _rows_of(tables.keys, log.catalogue.keys.keys)[later.rows]
    found = targets_by_user(later.users, rows.astype(np.uint32))
    cases = (_case(tables.histories, int(log.user_keys[u]), rows) for u, rows in found.items())
    new = tuple(case for case in cases if len(case.targets))
    if not new:
        raise EvaluationError("after the bundle nobody played anything new")
    return new


def sample(cases: Sequence[Case], limit: int, *, seed: int) -> tuple[Case, ...]:
    """Return at most `limit` of the cases, drawn with the seed, in their order."""
    if len(cases) <= limit:
        return tuple(cases)
    drawn = np.random.default_rng(seed).choice(len(cases), limit, replace=False)
    return tuple(cases[place] for place in sorted(drawn))


def _case(histories: Histories, user_key: int, rows: NDArray[np.uint32]) -> Case:
    return Case(user_key, np.setdiff1d(rows, histories.of(user_key)[0]).astype(np.uint32))


def _later(tables: Tables, log: EventLog) -> Events:
    if log.order == "time":
        return _later_in_time(tables.facts.as_of_s, log)
    later = log.events
    if log.order == "position":
        later = later.where(_is_behind_the_history(tables, log))
    if not len(later) or (log.order == "none" and len(later) <= tables.facts.events):
        raise EvaluationError(
            f"the log holds nothing beyond the bundle's own {tables.facts.events} events: was it "
            "published without a holdout? `meshctl train --holdout last` keeps plays back"
        )
    return later


def _later_in_time(as_of_s: int, log: EventLog) -> Events:
    later = log.events.where(log.events.times_s >= as_of_s)
    if not len(later):
        ends = _utc(int(log.events.times_s.max(initial=0)))
        raise EvaluationError(
            f"the log's last event is of {ends} and the bundle is as of {_utc(as_of_s)}: was it "
            "published without a holdout? `meshctl train --holdout week` keeps a week back; a "
            "longer log would do as well"
        )
    return later


def _is_behind_the_history(tables: Tables, log: EventLog) -> NDArray[np.bool_]:
    """Return for each event of a log with positions whether the bundle's history ends before it.

    Raises EvaluationError where a history is not the beginning of what the log has of its user.
    """
    users, starts = np.unique(log.events.users, return_index=True)
    behind = np.ones(len(log.events), dtype=np.bool_)
    keys, strangers = log.catalogue.keys.keys, 0
    for user, start, end in zip(users, starts, [*starts[1:], len(behind)], strict=True):
        played, _ = tables.histories.of(int(log.user_keys[user]))
        same = log.events.rows[start : min(end, start + len(played))]
        behind[start : start + len(same)] = False
        strangers += not np.array_equal(keys[same], tables.keys.keys[played])
    if strangers:
        raise EvaluationError(
            f"of {strangers} of {len(users)} users the bundle's history is not the beginning of "
            "the log's: the bundle was trained on another log"
        )
    return behind


def _refuse_strangers(tables: Tables, log: EventLog, later: Events) -> None:
    keys = log.user_keys[np.unique(later.users)]
    if not np.isin(keys, tables.histories.user_keys).any():
        raise EvaluationError(
            f"none of the {len(keys)} users who come after the bundle is in it: "
            "the bundle was trained on another log"
        )
    rows = np.unique(later.rows)
    if (tables.keys.rows_of_keys(log.catalogue.keys.keys[rows]) < 0).all():
        raise EvaluationError(
            f"none of the {len(rows)} items that come after the bundle is in it: "
            "the bundle was trained on another log"
        )


def _rows_of(items: ItemKeys, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the bundle's row of each key; for each unknown one a row beyond them of its own."""
    rows = items.rows_of_keys(keys)
    unknown = rows < 0
    rows[unknown] = len(items.keys) + np.arange(np.count_nonzero(unknown))
    return rows


def _utc(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
