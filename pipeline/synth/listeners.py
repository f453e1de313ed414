"""The listeners of a synthetic world: where they live, what they like, how much they play."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.catalogue import DIMENSIONS, MARKET_SHARES, Scenes, unit
from pipeline.synth.settings import SynthSettings

SCENES_PER_USER = 8
SHARPNESS = 7.0
"""How much more a listener plays scenes that are near the own taste: weight exp(7 cosine)."""
ACTIVITY_SPREAD = 1.0
"""Sigma of the log-normal activity: the busiest tenth makes nearly half of the plays."""
MOST_PLAYS_PER_DAY = 60
NEWCOMERS = 0.25
_CHUNK_USERS = 16_384  # the users x scenes matrix exists for one chunk at a time


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listeners as parallel columns, [users]."""

    market: NDArray[np.int64]
    """Index into MARKETS."""
    scenes: NDArray[np.int64]
    """[users, SCENES_PER_USER]: the scenes that suit them, best first."""
    scene_sums: NDArray[np.float64]
    """[users, SCENES_PER_USER]: running sum of the shares of `scenes`, ending at 1."""
    first_day: NDArray[np.int64]
    """Day of the log on which they begin."""
    plays: NDArray[np.int64]
    """Plays over the whole log, at least 1."""


def make_listeners(rng: np.random.Generator, settings: SynthSettings, scenes: Scenes) -> Listeners:
    """Make `settings.users` listeners."""
    users = settings.users
    chosen = np.empty((users, SCENES_PER_USER), dtype=np.int64)
    sums = np.empty((users, SCENES_PER_USER))
    for start in range(0, users, _CHUNK_USERS):
        chunk = slice(start, min(start + _CHUNK_USERS, users))
        chosen[chunk], sums[chunk] = _choose_scenes(rng, chunk.stop - start, scenes)
    joined_late = rng.random(users) < NEWCOMERS
    return Listeners(
        market=rng.choice(len(MARKET_SHARES), size=users, p=MARKET_SHARES),
        scenes=chosen,
        scene_sums=sums,
        first_day=np.where(joined_late, rng.integers(0, settings.days, users), 0),
        plays=_draw_plays(rng, settings),
    )


def _choose_scenes(
    rng: np.random.Generator, users: int, scenes: Scenes
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    first, second = rng.choice(len(scenes.genre), size=(2, users), p=scenes.popularity)
    share = rng.uniform(0.1, 0.5, (users, 1))
    noise = rng.normal(0.0, 0.15, (users, DIMENSIONS))
    taste = unit((1 - share) * scenes.vectors[first] + share * scenes.vectors[second] + noise)
    liking = np.exp(SHARPNESS * (taste @ scenes.vectors.T)) * np.sqrt(scenes.popularity)
    best = np.argsort(-liking, axis=1, kind="stable")[:, :SCENES_PER_USER]
    sums = np.cumsum(np.take_along_axis(liking, best, axis=1), axis=1)
    return best, sums / sums[:, -1:]


def _draw_plays(rng: np.random.Generator, settings: SynthSettings) -> NDArray[np.int64]:
    activity = rng.lognormal(0.0, ACTIVITY_SPREAD, settings.users)
    plays = activity * (settings.events_per_user / activity.mean())
    most = max(settings.days * MOST_PLAYS_PER_DAY, 1)
    rounded: NDArray[np.int64] = np.clip(np.rint(plays), 1, most).astype(np.int64)
    return rounded
