"""Cuts: what was known, and what came after it.

A log with times is cut at a time, weeks apart, or less where it is short. A log with positions is
cut in each user's own sequence: the test cut holds back the last play, each training cut one more.
A log without order gets a seeded random sequence per user first, and is cut like that: a holdout,
said to be one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.event_log import EventLog, Events, LogError
from pipeline.recipe import DEFAULT, Recipe

WINDOW_S = 7 * 86_400
"""A cut's targets are what was played in the week after it."""
MIN_TIME_CUTS = 4
"""Training cuts of a short log; below that windows shrink instead."""
KNOWN_WINDOWS = 3
"""Windows before the oldest training cut: what its tables are built from."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One moment of a log."""

    before: Events
    after: Events
    """What came in the window after the cut."""
    as_of_s: int
    """Unix seconds of the cut; 0 where the log has no times."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where a log is cut."""

    training: tuple[Cut, ...]
    """Newest first; no window overlaps the test cut's."""
    test: Cut
    whole: Cut
    """Everything, nothing after it: what is published."""
    description: str
    """How the cuts were made, in words for the report."""


def cut_log(log: EventLog, *, seed: int, recipe: Recipe = DEFAULT) -> Cuts:
    """Return the cuts of `log`, as many as the recipe says.

    Raises LogError when it is too short to train and test on.
    """
    if log.order == "time":
        cuts = _time_cuts(log, recipe.time_cuts)
    else:
        cuts = _sequence_cuts(log, seed, recipe.cuts)
    if not len(cuts.test.after) or not len(cuts.test.before):
        raise LogError(
            f"the log has {len(log.events)} events of {len(log.user_keys)} users: too few to hold "
            "any back for the evaluation"
        )
    return cuts


def _time_cuts(log: EventLog, most: int) -> Cuts:
    times = log.events.times_s
    end_s = int(times.max(initial=0)) + 1
    span_s = end_s - int(times.min(initial=end_s))
    window_s = min(WINDOW_S, max(1, span_s // (1 + MIN_TIME_CUTS + KNOWN_WINDOWS)))
    n_training = min(most, max(MIN_TIME_CUTS, span_s // window_s - 1 - KNOWN_WINDOWS))
    moments = [end_s - window_s * back for back in range(1, n_training + 2)]
    test, *training = (_time_cut(log.events, moment, window_s) for moment in moments)
    return Cuts(
        training=tuple(training),
        test=test,
        whole=Cut(log.events, log.events.where(times < 0), end_s),
        description=(
            f"by time: tested on the last {window_s / 86_400:.3g} days, trained on the "
            f"{n_training} windows of that length before them"
        ),
    )


def _time_cut(events: Events, moment_s: int, window_s: int) -> Cut:
    known = events.times_s < moment_s
    window = ~known & (events.times_s < moment_s + window_s)
    return Cut(events.where(known), events.where(window), moment_s)


def _sequence_cuts(log: EventLog, seed: int, n_training: int) -> Cuts:
    events = log.events
    back = _places_from_the_end(events, None if log.order == "position" else seed)
    test, *training = (
        Cut(events.where(back > held), events.where(back == held), 0)
        for held in range(n_training + 1)
    )
    kind = "last plays" if log.order == "position" else "plays drawn at random (no order)"
    return Cuts(
        training=tuple(training),
        test=test,
        whole=Cut(events, events.where(back < 0), 0),
        description=(
            f"by user: tested on one of each user's {kind}, trained on the "
            f"{n_training} before it, one at a time"
        ),
    )


def _places_from_the_end(events: Events, shuffle_seed: int | None) -> NDArray[np.intp]:
    """Return 0 for each user's last play, 1 for the one before it, ...; shuffled with a seed."""
    ends = np.searchsorted(events.users, events.users, side="right")
    if shuffle_seed is None:
        return ends - 1 - np.arange(len(events))
    drawn = np.random.default_rng(shuffle_seed).random(len(events))
    places = np.empty(len(events), dtype=np.intp)
    places[np.lexsort((drawn, events.users))] = np.arange(len(events))
    return ends - 1 - places
