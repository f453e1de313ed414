"""A synthetic log of any catalogue size, as the trainer reads it, without a log directory.

How this works. The synthesiser's scenes are at most 512, so that a catalogue ten times as large
would only be ten times as dense. A large world is made of countries instead, each a synthetic
world of at most `COUNTRY_ITEMS` with its own seed, whose listeners keep to its catalogue: scenes
grow with the items, and neighbour lists can be made country by country. An item that nobody
played is played once, after a play of its scene: a bundle has as many items as its name says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue import GENRES_PER_ITEM, Catalogue
from pipeline.event_log import EventLog, Events
from pipeline.synth import words
from pipeline.synth.catalogue import EVERYWHERE, MARKETS, make_catalogue
from pipeline.synth.catalogue import Catalogue as Tracks
from pipeline.synth.listeners import Listeners, make_listeners
from pipeline.synth.listening import Plays, listen
from pipeline.synth.settings import DEFAULT_EVENTS_PER_USER, SynthSettings
from signals.bundle import (
    MARKET_COLUMNS,
    NO_CODE,
    GenreNames,
    ItemKeys,
    ItemTexts,
    ItemTraits,
    MarketRights,
    market_column,
)
from signals.keys import item_keys

COUNTRY_ITEMS = 100_000
PLAYS_PER_ITEM = 10
"""Mean; the same at every size, so that vectors are trained equally well."""
DAYS = 60

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Country:
    """One synthetic world among several."""

    tracks: Tracks
    listeners: Listeners
    plays: Plays
    """Sorted by user, then oldest first; every track at least once."""


@dataclass(frozen=True, slots=True)
class SyntheticLog:
    """A log and what only its maker knows of it."""

    log: EventLog
    country: NDArray[np.int64]
    """int64 [items], by row."""


def synthetic_log(items: int, *, seed: int, country_items: int = COUNTRY_ITEMS) -> SyntheticLog:
    """Return a log with exactly `items` items, a multiple of `country_items` if above it.

    Equal arguments give equal logs. Raises ValueError for another number of items.
    """
    size = min(items, country_items)
    if items % size:
        raise ValueError(f"items is {items}; beyond {country_items} it must be a multiple of it")
    countries = [_country(size, seed=seed + number) for number in range(items // size)]
    n_users = len(countries[0].listeners.plays)
    item_key, row_of = _ranked([f"trk_{n:07d}" for n in range(items)])
    user_key, place_of = _ranked([f"usr_{n:07d}" for n in range(n_users * len(countries))])
    order = np.argsort(row_of)
    log = EventLog(
        order="time",
        events=_events(countries, row_of, place_of),
        user_keys=user_key,
        catalogue=_catalogue(countries, item_key, order),
        unplayed_items=0,
    )
    return SyntheticLog(log, order // size)


def _country(items: int, *, seed: int) -> Country:
    users = max(1, int(items * PLAYS_PER_ITEM / DEFAULT_EVENTS_PER_USER))
    settings = SynthSettings(users=users, items=items, days=DAYS, seed=seed)
    rng = np.random.default_rng(seed)
    tracks = make_catalogue(rng, settings)
    listeners = make_listeners(rng, settings, tracks.scenes)
    plays = listen(rng, settings, tracks, listeners, on_progress=lambda _: None)
    return Country(tracks, listeners, _complete(rng, plays, tracks))


def _complete(rng: np.random.Generator, plays: Plays, tracks: Tracks) -> Plays:
    """Return the plays, with one more after a play of its scene for each track without any."""
    unplayed = np.flatnonzero(np.bincount(plays.item, minlength=len(tracks.scene)) == 0)
    by_scene = np.argsort(tracks.scene[plays.item], kind="stable")
    scenes = tracks.scene[plays.item][by_scene]
    first = np.searchsorted(scenes, tracks.scene[unplayed])
    size = np.searchsorted(scenes, tracks.scene[unplayed], side="right") - first
    # A scene that nobody plays borrows whatever stands in its place.
    drawn = np.minimum(first + rng.integers(0, np.maximum(size, 1)), len(scenes) - 1)
    before = by_scene[drawn]
    user = np.concatenate([plays.user, plays.user[before]])
    item = np.concatenate([plays.item, unplayed])
    at_s = np.concatenate([plays.at_s, plays.at_s[before]])
    order = np.lexsort((np.arange(len(user)), at_s, user))
    return Plays(user[order], item[order], at_s[order])


def _ranked(ids: Sequence[str]) -> tuple[NDArray[np.uint64], Ints]:
    """Return the sorted keys of `ids` and the place of each id among them."""
    keys = item_keys(ids)
    order = np.argsort(keys)
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.arange(len(keys))
    return keys[order], place


def _events(countries: Sequence[Country], row_of: Ints, place_of: Ints) -> Events:
    n_items, n_users = len(countries[0].tracks.scene), len(countries[0].listeners.plays)
    columns = np.array([market_column(market) for market in MARKETS], dtype=np.uint16)
    users = np.concatenate([place_of[c.plays.user + n * n_users] for n, c in enumerate(countries)])
    rows = np.concatenate([row_of[c.plays.item + n * n_items] for n, c in enumerate(countries)])
    times_s = np.concatenate([c.plays.at_s for c in countries])
    markets = np.concatenate([columns[c.listeners.market[c.plays.user]] for c in countries])
    order = np.argsort(users, kind="stable")  # within a user they are in order already
    return Events(
        users=users[order].astype(np.uint32),
        rows=rows[order].astype(np.uint32),
        times_s=times_s[order],
        markets=markets[order],
    )


def _catalogue(countries: Sequence[Country], keys: NDArray[np.uint64], order: Ints) -> Catalogue:
    """Return the items of all countries by row; `order` is the number of the item in each row."""
    artist = _codes(countries, lambda tracks: tracks.artist)
    genre = np.concatenate([c.tracks.scenes.genre[c.tracks.scene] for c in countries])
    second = np.concatenate([c.tracks.second_genre for c in countries])
    genres = np.full((len(order), GENRES_PER_ITEM), NO_CODE, dtype=np.uint16)
    genres[:, 0] = genre
    genres[:, 1] = np.where(second == genre, NO_CODE, second)
    sets, rights = np.unique(
        np.concatenate([c.tracks.rights for c in countries]), return_inverse=True
    )
    title = np.concatenate([c.tracks.title for c in countries])
    return Catalogue(
        keys=ItemKeys(keys),
        texts=ItemTexts.of(
            [f"trk_{number:07d}" for number in order.tolist()],
            [_title(number) for number in title[order].tolist()],
            [
                f"{words.NAME_STARTS[n % len(words.NAME_STARTS)]} {n}"
                for n in artist[order].tolist()
            ],
        ),
        traits=ItemTraits(
            artists=_dense(artist[order]),
            recordings=_dense(_codes(countries, lambda tracks: tracks.original)[order]),
            genres=genres[order],
            released=np.full(len(order), np.nan, dtype=np.float32),
            rights=rights[order].astype(np.uint16),
        ),
        genre_names=GenreNames.of(words.GENRES),
        rights=_market_rights(sets),
    )


def _codes(countries: Sequence[Country], column: Callable[[Tracks], Ints]) -> Ints:
    """Return a column of codes, those of one country apart from those of another."""
    codes = [column(country.tracks) for country in countries]
    lifts = np.cumsum([0, *(int(each.max()) + 1 for each in codes[:-1])])
    return np.concatenate([each + lift for each, lift in zip(codes, lifts, strict=True)])


def _dense(codes: Ints) -> NDArray[np.uint32]:
    """Return the codes numbered from 0, none left out, in their order."""
    return np.unique(codes, return_inverse=True)[1].astype(np.uint32)


def _artist(number: int) -> str:
    return f"{words.NAME_STARTS[number % len(words.NAME_STARTS)]} {number}"


def _title(number: int) -> str:
    adjective = words.TITLE_ADJECTIVES[number % len(words.TITLE_ADJECTIVES)]
    number //= len(words.TITLE_ADJECTIVES)
    noun = words.TITLE_NOUNS[number % len(words.TITLE_NOUNS)]
    pattern = words.TITLE_PATTERNS[number // len(words.TITLE_NOUNS) % len(words.TITLE_PATTERNS)]
    return pattern.format(adjective=adjective, noun=noun)


def _market_rights(sets: Ints) -> MarketRights:
    """Return the sets of markets, given as bits of `MARKETS`; all of them mean everywhere."""
    allowed = np.zeros((len(sets), MARKET_COLUMNS), dtype=np.bool_)
    for code, bits in enumerate(sets.tolist()):
        named = [market_column(name) for place, name in enumerate(MARKETS) if bits >> place & 1]
        allowed[code, slice(None) if bits == EVERYWHERE else named] = True
    return MarketRights(allowed)
