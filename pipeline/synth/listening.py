"""What the listeners play: sessions with a mood, in which one track leads to the next.

All sessions advance together, one play a step, so the work is a few dozen numpy steps whatever
the number of users. A play follows the one before it by one of the MOVES.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.catalogue import NEIGHBOURS, Catalogue, zipf_shares
from pipeline.synth.listeners import SCENES_PER_USER, Listeners
from pipeline.synth.release_buckets import ReleaseBuckets
from pipeline.synth.settings import DAY_S, END_S, SynthSettings

PLAYS_PER_SESSION = 10
LONGEST_SESSION = 40
FAVOURITES = 10
FRESH_SHARE = 0.15
"""Share of the draws from a scene that prefer what came out lately."""
FRESH_DAYS = 12
"""Mean of the exponential window of those draws: the boost of a new track decays with it."""
PREFERS_ORIGINAL = 0.85
"""How often a listener who comes upon a re-upload plays the original instead."""
REDRAWS = 4

# What the next play is, and how often.
NEXT_OF_ARTIST, NEAR, SAME_SCENE, NEXT_SCENE, FAVOURITE, POPULAR = range(6)
MOVES = np.array([0.24, 0.26, 0.20, 0.08, 0.17, 0.05])
FIRST_MOVES = np.array([0.0, 0.0, 0.60, 0.0, 0.30, 0.10])

# Share of sessions that begin in each hour, local time taken as UTC.
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 6, 5, 5, 5, 5, 5, 5, 6, 7, 8, 8, 8, 7, 5, 3], float)


@dataclass(frozen=True, slots=True)
class Plays:
    """Plays as parallel columns, [plays]."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    at_s: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Sessions:
    user: NDArray[np.int64]
    length: NDArray[np.int64]
    first_play: NDArray[np.int64]
    """Place of each session's first play in `at_s`."""
    at_s: NDArray[np.int64]
    """Time of every play, session by session."""


@dataclass(frozen=True, slots=True)
class _World:
    catalogue: Catalogue
    listeners: Listeners
    by_scene: ReleaseBuckets
    everything: ReleaseBuckets
    by_artist: "_Ring"
    by_shade: "_Ring"
    favourites: NDArray[np.int64]
    """[users, FAVOURITES]; -1 where none could be drawn."""


@dataclass(frozen=True, slots=True)
class _Ring:
    """The items of each group in one order; a step past the end comes round to its start."""

    items: NDArray[np.int64]
    place: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, group: NDArray[np.int64], within: NDArray[np.float64]) -> "_Ring":
        items = np.lexsort((within, group))
        place = np.empty(len(items), dtype=np.int64)
        place[items] = np.arange(len(items))
        start = np.searchsorted(group[items], group)
        return cls(items, place, start, np.searchsorted(group[items], group, side="right") - start)

    def step(self, item: NDArray[np.int64], by: NDArray[np.int64]) -> NDArray[np.int64]:
        start, size = self.start[item], self.size[item]
        return self.items[start + (self.place[item] - start + by) % size]


def listen(
    rng: np.random.Generator,
    settings: SynthSettings,
    catalogue: Catalogue,
    listeners: Listeners,
    *,
    on_progress: Callable[[float], None],
) -> Plays:
    """Play the log through. `on_progress` is told the share that is done, 0 to 1.

    No track is played before its release or outside its markets, and none at or after END_S.
    """
    world = _make_world(rng, settings, catalogue, listeners)
    sessions = _make_sessions(rng, settings, listeners)
    item = np.full(len(sessions.at_s), -1)
    current = np.full(len(sessions.user), -1)
    mood = _draw_moods(rng, listeners, sessions.user)
    for number in range(int(sessions.length.max())):
        active = np.flatnonzero(sessions.length > number)
        play = sessions.first_play[active] + number
        drawn, mood[active] = _next_play(
            rng,
            world,
            user=sessions.user[active],
            current=current[active],
            mood=mood[active],
            at_s=sessions.at_s[play],
        )
        item[play] = drawn
        current[active] = np.where(drawn >= 0, drawn, current[active])
        on_progress((number + 1) / int(sessions.length.max()))
    user = np.repeat(sessions.user, sessions.length)
    is_played = (item >= 0) & (sessions.at_s < END_S)
    return Plays(user[is_played], item[is_played], sessions.at_s[is_played])


def _make_world(
    rng: np.random.Generator,
    settings: SynthSettings,
    catalogue: Catalogue,
    listeners: Listeners,
) -> _World:
    released_s, weight = catalogue.released_s, catalogue.weight
    by_scene = ReleaseBuckets.of(catalogue.scene, released_s=released_s, weight=weight)
    one_bucket = np.zeros(len(weight), dtype=np.int64)
    owner = np.repeat(np.arange(settings.users), FAVOURITES)
    # A favourite may come out during the log: it is drawn as of some moment of it.
    known_at_s = rng.integers(settings.start_s, END_S, len(owner))
    scene = _draw_moods(rng, listeners, owner)
    favourites = by_scene.draw(rng, scene, at_s=known_at_s, window_s=np.zeros_like(known_at_s))
    return _World(
        catalogue=catalogue,
        listeners=listeners,
        by_scene=by_scene,
        everything=ReleaseBuckets.of(one_bucket, released_s=released_s, weight=weight),
        by_artist=_Ring.of(catalogue.artist, released_s.astype(np.float64)),
        by_shade=_Ring.of(catalogue.scene, catalogue.shade),
        favourites=favourites.reshape(settings.users, FAVOURITES),
    )


def _draw_moods(
    rng: np.random.Generator, listeners: Listeners, user: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw one of the user's scenes by its share."""
    chosen = (rng.random((len(user), 1)) > listeners.scene_sums[user]).sum(axis=1)
    scene: NDArray[np.int64] = listeners.scenes[user, np.minimum(chosen, SCENES_PER_USER - 1)]
    return scene


def _make_sessions(
    rng: np.random.Generator, settings: SynthSettings, listeners: Listeners
) -> _Sessions:
    count = -(-listeners.plays // PLAYS_PER_SESSION)
    user = np.repeat(np.arange(settings.users), count)
    length = _draw_lengths(rng, listeners.plays / count, user)
    start_s = _draw_starts(rng, settings, listeners.first_day[user])
    order = np.lexsort((start_s, user))
    start_s = start_s[order]
    first_play = np.cumsum(length) - length
    gap_s = rng.integers(130, 330, int(length.sum()))
    elapsed_s = np.cumsum(gap_s) - gap_s
    start_s = _without_overlap(user, start_s, np.add.reduceat(gap_s, first_play))
    within_s = elapsed_s - np.repeat(elapsed_s[first_play], length)
    return _Sessions(user, length, first_play, np.repeat(start_s, length) + within_s)


def _draw_lengths(
    rng: np.random.Generator, mean: NDArray[np.float64], user: NDArray[np.int64]
) -> NDArray[np.int64]:
    length = rng.gamma(2.0, mean[user] / 2.0)
    rounded: NDArray[np.int64] = np.clip(np.rint(length), 1, LONGEST_SESSION).astype(np.int64)
    return rounded


def _draw_starts(
    rng: np.random.Generator, settings: SynthSettings, first_day: NDArray[np.int64]
) -> NDArray[np.int64]:
    day = rng.integers(first_day, settings.days)
    hour = rng.choice(len(_HOURS), size=len(day), p=_HOURS / _HOURS.sum())
    return settings.start_s + day * DAY_S + hour * 3600 + rng.integers(0, 3600, len(day))


def _without_overlap(
    user: NDArray[np.int64], start_s: NDArray[np.int64], duration_s: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Delay sessions (sorted by user and start) until the user's previous one has ended."""
    before_s = np.cumsum(duration_s) - duration_s
    # A running maximum over all users at once: each user's numbers lie above the previous ones'.
    lift = user * (int(start_s.max()) + int(duration_s.sum()) + 1)
    begun_s: NDArray[np.int64] = np.maximum.accumulate(start_s - before_s + lift)
    begun_s += before_s - lift
    return begun_s


def _next_play(
    rng: np.random.Generator,
    world: _World,
    *,
    user: NDArray[np.int64],
    current: NDArray[np.int64],
    mood: NDArray[np.int64],
    at_s: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the items played (-1: nothing playable was found) and the moods after them."""
    move = _draw_moves(rng, current)
    hop = world.catalogue.scenes.neighbours[mood, rng.integers(0, NEIGHBOURS, len(mood))]
    mood = np.where(move == NEXT_SCENE, hop, mood)
    item = _draw_scene(rng, world, mood, at_s)
    _fill(item, move == NEXT_OF_ARTIST, lambda at: world.by_artist.step(current[at], _ones(at)))
    _fill(item, move == NEAR, lambda at: world.by_shade.step(current[at], _hops(rng, len(at))))
    item = _prefer_originals(rng, world.catalogue, item)
    _fill(item, move == FAVOURITE, lambda at: _draw_favourite(rng, world, user[at]))
    _fill(item, move == POPULAR, lambda at: _draw_popular(rng, world, at_s[at]))
    market = world.listeners.market[user]
    for _ in range(REDRAWS):
        again = np.flatnonzero(
            ~_is_playable(world.catalogue, item, market, at_s) | (item == current)
        )
        item[again] = _draw_scene(rng, world, mood[again], at_s[again])
    return np.where(_is_playable(world.catalogue, item, market, at_s), item, -1), mood


def _fill(
    item: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    draw: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> None:
    at = np.flatnonzero(chosen)
    item[at] = draw(at)


def _prefer_originals(
    rng: np.random.Generator, catalogue: Catalogue, item: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Undo that stepping to a neighbour pays no heed to popularity, which re-uploads lack."""
    is_swapped = (rng.random(len(item)) < PREFERS_ORIGINAL) & (item >= 0)
    return np.where(is_swapped, catalogue.original[item], item)


def _draw_moves(rng: np.random.Generator, current: NDArray[np.int64]) -> NDArray[np.int64]:
    first = rng.choice(len(FIRST_MOVES), size=len(current), p=FIRST_MOVES)
    later = rng.choice(len(MOVES), size=len(current), p=MOVES)
    return np.where(current < 0, first, later)


def _ones(at: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.ones_like(at)


def _hops(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    hops: NDArray[np.int64] = rng.geometric(0.5, count) * rng.choice(np.array([-1, 1, 1]), count)
    return hops


def _draw_scene(
    rng: np.random.Generator, world: _World, scene: NDArray[np.int64], at_s: NDArray[np.int64]
) -> NDArray[np.int64]:
    window_s = rng.exponential(FRESH_DAYS * DAY_S, len(scene)).astype(np.int64)
    window_s[rng.random(len(scene)) >= FRESH_SHARE] = 0
    return world.by_scene.draw(rng, scene, at_s=at_s, window_s=window_s)


def _draw_favourite(
    rng: np.random.Generator, world: _World, user: NDArray[np.int64]
) -> NDArray[np.int64]:
    slot = rng.choice(FAVOURITES, size=len(user), p=zipf_shares(FAVOURITES, 0.8))
    return world.favourites[user, slot]


def _draw_popular(
    rng: np.random.Generator, world: _World, at_s: NDArray[np.int64]
) -> NDArray[np.int64]:
    everywhere = np.zeros(len(at_s), dtype=np.int64)
    return world.everything.draw(rng, everywhere, at_s=at_s, window_s=everywhere)


def _is_playable(
    catalogue: Catalogue,
    item: NDArray[np.int64],
    market: NDArray[np.int64],
    at_s: NDArray[np.int64],
) -> NDArray[np.bool_]:
    has_rights = (catalogue.rights[item] >> market) & 1 == 1
    is_out = catalogue.released_s[item] <= at_s
    is_playable: NDArray[np.bool_] = (item >= 0) & has_rights & is_out
    return is_playable
