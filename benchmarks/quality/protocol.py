"""The protocol: what is known, who is asked for, what counts, and how lists are measured.

The same for every peer and for ours: the cuts are training's own (`pipeline.cuts`), users have at
least `MIN_HISTORY` plays before the cut, targets are items that they had not played, and lists
leave out what they had. Peers choose their settings on the validation window, which is the window
before the test window, from what was known before it; then they are fitted on everything before
the test window, and asked once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from pipeline.cuts import Cut, cut_log
from pipeline.evaluate import LIST_LENGTH
from pipeline.event_log import EventLog, Events
from pipeline.metrics import METRICS, list_quality
from pipeline.offline_mesh import targets_by_user
from pipeline.train_ranker import MIN_HISTORY
from signals.top import best_first

BLOCK_USERS = 256
RECENT_PLAYS = 200
"""Plays that recency-weighted histories hold: as many as a request to the mesh."""
WEIGHTLESS = 10.0
"""Scales after which a play is left out: it would weigh 5e-5 of the newest."""

Scores = NDArray[np.float32]
Score = Callable[[NDArray[np.intp]], Scores]
"""Scores of every item, float32 [users, items], for users by their place in the log."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a peer may know."""

    events: Events
    n_users: int
    n_items: int
    as_of_s: int
    order: str
    seed: int

    def plays(self) -> sp.csr_matrix:
        """Return how often each user played each item, float32 [users, items]."""
        ones = np.ones(len(self.events), dtype=np.float32)
        places = (self.events.users, self.events.rows)
        return sp.csr_matrix((ones, places), shape=(self.n_users, self.n_items))

    def played(self) -> sp.csr_matrix:
        """Return 1 where a user played an item, float32 [users, items]."""
        matrix = self.plays()
        matrix.data[:] = 1
        return matrix

    def history(self, scale: float) -> sp.csr_matrix:
        """Return every user's newest plays weighted exp(-age / scale), age counted in plays.

        With an infinite scale it is `played`.
        """
        if np.isinf(scale):
            return self.played()
        ages = self.ages()
        recent = ages < min(RECENT_PLAYS, WEIGHTLESS * scale)
        weights = np.exp(-ages[recent] / scale).astype(np.float32)
        places = (self.events.users[recent], self.events.rows[recent])
        return sp.csr_matrix((weights, places), shape=(self.n_users, self.n_items))

    def ages(self) -> NDArray[np.intp]:
        """Return 0 for each user's newest play, 1 for the one before it, ..."""
        ends = np.searchsorted(self.events.users, self.events.users, side="right")
        return np.asarray(ends - 1 - np.arange(len(self.events)))


@dataclass(frozen=True, slots=True)
class Window:
    """One cut: what was known, and what the users to ask for played after it."""

    past: Past
    users: NDArray[np.intp]
    targets: tuple[NDArray[np.uint32], ...]
    """Parallel to `users`."""

    def sample(self, limit: int) -> "Window":
        """Return the window with at most `limit` of its users, drawn with the seed."""
        if len(self.users) <= limit:
            return self
        drawn = np.random.default_rng(self.past.seed).choice(len(self.users), limit, replace=False)
        kept = np.sort(drawn)
        return Window(self.past, self.users[kept], tuple(self.targets[at] for at in kept.tolist()))


def windows_of(log: EventLog, *, seed: int) -> tuple[Window, Window]:
    """Return the validation window and the test window of a log."""
    cuts = cut_log(log, seed=seed)
    return _window(log, cuts.training[0], seed), _window(log, cuts.test, seed)


def _window(log: EventLog, cut: Cut, seed: int) -> Window:
    past = Past(
        cut.before, len(log.user_keys), len(log.catalogue), cut.as_of_s, log.order, seed=seed
    )
    counts = np.bincount(cut.before.users, minlength=past.n_users)
    starts = np.concatenate(([0], np.cumsum(counts)))
    users, targets = [], []
    for user, rows in targets_by_user(cut.after.users, cut.after.rows).items():
        new = np.setdiff1d(rows, cut.before.rows[starts[user] : starts[user + 1]])
        if counts[user] >= MIN_HISTORY and len(new):
            users.append(user)
            targets.append(new)
    return Window(past, np.array(users, dtype=np.intp), tuple(targets))


def measure(window: Window, score: Score) -> NDArray[np.float64]:
    """Return the quality of the first `LIST_LENGTH` items of every user, [users, METRICS]."""
    played = window.past.played()
    rows = np.arange(window.past.n_items, dtype=np.uint32)
    found = np.zeros((len(window.users), len(METRICS)))
    for start in range(0, len(window.users), BLOCK_USERS):
        block = window.users[start : start + BLOCK_USERS]
        scores = score(block)
        for place, user in enumerate(block.tolist()):
            seen = played.indices[played.indptr[user] : played.indptr[user + 1]]
            new = np.delete(rows, seen)
            best = new[best_first(new, scores[place, new], LIST_LENGTH)]
            quality = list_quality(best, window.targets[start + place])
            found[start + place] = [getattr(quality, metric) for metric in METRICS]
    return found
