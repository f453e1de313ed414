"""The catalogue of a synthetic world: genres, scenes, artists and tracks.

A taste is a unit vector. Genres are the corners of taste space, scenes lie around genres (a few
dozen tracks each: what one listener would call "my kind of thing"), artists belong to scenes, and
tracks to artists.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.settings import DAY_S, END_S, SynthSettings
from pipeline.synth.words import GENRES

DIMENSIONS = 8
MARKETS = ("US", "BR", "GB", "DE", "FR", "MX", "JP", "ES", "SE", "PL")
MARKET_SHARES = np.array([0.26, 0.13, 0.12, 0.11, 0.09, 0.08, 0.08, 0.06, 0.04, 0.03])
EVERYWHERE = (1 << len(MARKETS)) - 1

TRACKS_PER_SCENE = 60
MOST_SCENES = 512  # the scene-to-scene matrix stays small
NEIGHBOURS = 5
TRACKS_PER_ARTIST = 12
ZIPF_EXPONENT = 0.85
RELEASED_DURING_LOG = 0.15
MEAN_AGE_DAYS = 900
REUPLOADS = 0.02
REUPLOAD_WEIGHT = 0.15
LIMITED_RIGHTS = 0.08
SECOND_GENRE = 0.3

_TITLE_STEP = 7_919  # coprime to the number of titles: one artist's titles all differ


@dataclass(frozen=True, slots=True)
class Scenes:
    """Where the scenes lie in taste space, [scenes, ...]."""

    vectors: NDArray[np.float64]
    """[scenes, DIMENSIONS], unit length."""
    genre: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    """[scenes, NEIGHBOURS]: the nearest other scenes, nearest first."""
    popularity: NDArray[np.float64]
    """Share of listeners' attention, summing to 1."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Tracks as parallel columns, [items]."""

    scenes: Scenes
    artist: NDArray[np.int64]
    scene: NDArray[np.int64]
    second_genre: NDArray[np.int64]
    """Equal to the scene's genre where a track has only one."""
    title: NDArray[np.int64]
    """A number that the title is made from."""
    shade: NDArray[np.float64]
    """Place on the scene's own axis: tracks near each other there are played after each other."""
    weight: NDArray[np.float64]
    """Popularity, Zipf."""
    released_s: NDArray[np.int64]
    rights: NDArray[np.int64]
    """Bit m is set when the track may be played in MARKETS[m]."""
    original: NDArray[np.int64]
    """The track that this one re-uploads, or itself."""


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to length 1."""
    scaled: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def zipf_shares(count: int, exponent: float) -> NDArray[np.float64]:
    """Return `count` shares proportional to rank^-exponent, summing to 1."""
    shares: NDArray[np.float64] = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    shares /= shares.sum()
    return shares


def make_catalogue(rng: np.random.Generator, settings: SynthSettings) -> Catalogue:
    """Make `settings.items` tracks; a few are re-uploads of others."""
    scenes = _make_scenes(rng, settings.items)
    artists = max(1, settings.items // TRACKS_PER_ARTIST)
    artist_scene = rng.choice(len(scenes.genre), size=artists, p=scenes.popularity)
    sizes = rng.lognormal(0.0, 0.8, artists)
    artist = rng.choice(artists, size=settings.items, p=sizes / sizes.sum())
    scene = artist_scene[artist]
    plain = Catalogue(
        scenes=scenes,
        artist=artist,
        scene=scene,
        second_genre=_second_genres(rng, scenes, scene),
        title=_titles(rng, artist),
        shade=rng.normal(0.0, 0.3, artists)[artist] + rng.normal(0.0, 0.3, settings.items),
        weight=_zipf_weights(rng, artist, artists),
        released_s=_release_times(rng, settings),
        rights=_rights(rng, artist, artists),
        original=np.arange(settings.items),
    )
    return _with_reuploads(rng, plain)


def _make_scenes(rng: np.random.Generator, items: int) -> Scenes:
    count = int(np.clip(items // TRACKS_PER_SCENE, len(GENRES), MOST_SCENES))
    genres = unit(rng.normal(size=(len(GENRES), DIMENSIONS)))
    shares = zipf_shares(len(GENRES), 0.7)
    further = rng.choice(len(GENRES), size=count - len(GENRES), p=shares)
    genre = np.concatenate((np.arange(len(GENRES)), further))
    vectors = unit(genres[genre] + rng.normal(0.0, 0.2, (count, DIMENSIONS)))
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    neighbours = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
    popularity = shares[genre] * rng.lognormal(0.0, 0.5, count)
    return Scenes(vectors, genre, neighbours, popularity / popularity.sum())


def _second_genres(
    rng: np.random.Generator, scenes: Scenes, scene: NDArray[np.int64]
) -> NDArray[np.int64]:
    nearest = scenes.genre[scenes.neighbours[scene, rng.integers(0, NEIGHBOURS, len(scene))]]
    return np.where(rng.random(len(scene)) < SECOND_GENRE, nearest, scenes.genre[scene])


def _titles(rng: np.random.Generator, artist: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(artist, kind="stable")
    starts = np.searchsorted(artist[order], artist[order])
    number = np.empty(len(artist), dtype=np.int64)
    number[order] = np.arange(len(artist)) - starts
    first = rng.integers(0, 2**31, artist.max() + 1)[artist]
    titles: NDArray[np.int64] = first + number * _TITLE_STEP
    return titles


def _zipf_weights(
    rng: np.random.Generator, artist: NDArray[np.int64], artists: int
) -> NDArray[np.float64]:
    appeal = rng.normal(0.0, 1.0, artists)[artist] + rng.normal(0.0, 1.0, len(artist))
    weights = np.empty(len(artist))
    weights[np.argsort(-appeal, kind="stable")] = zipf_shares(len(artist), ZIPF_EXPONENT)
    return weights


def _release_times(rng: np.random.Generator, settings: SynthSettings) -> NDArray[np.int64]:
    older = settings.start_s - rng.exponential(MEAN_AGE_DAYS * DAY_S, settings.items)
    newer = rng.integers(settings.start_s, END_S, settings.items)
    is_new = rng.random(settings.items) < RELEASED_DURING_LOG
    return np.where(is_new, newer, np.maximum(older, 0)).astype(np.int64)


def _rights(rng: np.random.Generator, artist: NDArray[np.int64], artists: int) -> NDArray[np.int64]:
    home = rng.choice(len(MARKETS), size=artists, p=MARKET_SHARES)[artist]
    others = rng.integers(0, EVERYWHERE + 1, len(artist)) & rng.integers(
        0, EVERYWHERE + 1, len(artist)
    )
    limited = (1 << home) | others
    return np.where(rng.random(len(artist)) < LIMITED_RIGHTS, limited, EVERYWHERE)


def _with_reuploads(rng: np.random.Generator, plain: Catalogue) -> Catalogue:
    items = len(plain.artist)
    shuffled = rng.permutation(items)
    copies, others = np.split(shuffled, [int(items * REUPLOADS)])
    weights = plain.weight[others]
    copied = rng.choice(others, size=len(copies), p=weights / weights.sum())
    original = plain.original.copy()
    original[copies] = copied
    weight = plain.weight.copy()
    weight[copies] = plain.weight[copied] * REUPLOAD_WEIGHT
    later = plain.released_s[copied] + rng.integers(DAY_S, 400 * DAY_S, len(copies))
    released_s = plain.released_s.copy()
    released_s[copies] = np.minimum(later, np.maximum(plain.released_s[copied], END_S - DAY_S))
    return Catalogue(
        scenes=plain.scenes,
        artist=plain.artist[original],
        scene=plain.scene[original],
        second_genre=plain.second_genre[original],
        title=plain.title[original],
        shade=plain.shade[original],
        weight=weight,
        released_s=released_s,
        rights=plain.rights[original],
        original=original,
    )
