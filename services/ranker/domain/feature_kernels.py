"""Loops over candidates behind the features: compiled by numba, without the GIL.

Every loop writes the rows of `columns` (float32 [features, candidates]) that its docstring names.
Arrays are trusted: a row beyond a table reads foreign memory. What is only read comes through
`for_kernel`, so that each loop is compiled once, before a server is ready.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from signals.bundle import NO_CODE
from signals.code_places import NOWHERE, place_of, places_of

DAY_S = 86_400.0
LEAST_SHARE = np.float32(1e-9)  # below one play in a log of a billion
LEAST_SQUARE = np.float32(1e-24)
"""Squared length that stands in for a zero vector's."""
ZERO, ONE = np.float32(0.0), np.float32(1.0)
"""A plain 0 would turn the comparison with it into one of float64, of half as many lanes."""
HALF_BITS = np.int64(32)
LOW_HALF = np.int64(0xFFFFFFFF)
ALL_BUT_SIGN = np.int32(0x7FFFFFFF)


@njit(nogil=True, cache=True, error_model="numpy")
def summarise_links(strengths: Any, columns: Any) -> None:
    """Write the greatest link from any play, how many link, and the newest that does (or NaN).

    `strengths` is float32 [plays, candidates], newest first.
    """
    greatest, count, newest = columns[0], columns[1], columns[2]
    greatest[:] = 0.0
    count[:] = 0.0
    newest[:] = np.nan
    for play in range(len(strengths) - 1, -1, -1):
        links, ago = strengths[play], np.float32(play)
        for place in range(len(links)):
            link = links[place]
            greatest[place] = max(greatest[place], link)
            count[place] += ONE if link > ZERO else ZERO
            newest[place] = ago if link > ZERO else newest[place]


@njit(nogil=True, cache=True, error_model="numpy")
def summarise_cosines(
    products: Any, play_squares: Any, squares: Any, mean_of: int, columns: Any
) -> None:
    """Write the cosine to the newest play, the mean to the newest `mean_of`, and the greatest.

    `products` are inner products, float32 [plays, candidates]; `play_squares` and `squares` the
    squared lengths of the vectors on both sides. A zero vector's cosines are 0.
    """
    newest, mean, greatest = columns[0], columns[1], columns[2]
    mean[:] = 0.0
    greatest[:] = -np.inf
    averaged = min(mean_of, len(products))
    for play in range(len(products)):
        scale = np.float32(1.0) / math.sqrt(max(play_squares[play], LEAST_SQUARE))
        share = np.float32(1.0 / averaged) if play < averaged else np.float32(0.0)
        product = products[play]
        for place in range(len(product)):
            scaled = product[place] * scale
            mean[place] += share * scaled
            greatest[place] = max(greatest[place], scaled)
    first = np.float32(1.0) / math.sqrt(max(play_squares[0], LEAST_SQUARE))
    for place in range(len(squares)):
        scale = np.float32(1.0) / math.sqrt(max(squares[place], LEAST_SQUARE))
        newest[place] = products[0, place] * first * scale
        mean[place] *= scale
        greatest[place] *= scale


@njit(nogil=True, cache=True, error_model="numpy")
def read_stats(
    rows: Any,
    share: Any,
    recent_share: Any,
    share_rank: Any,
    first_played_s: Any,
    as_of_s: int,
    columns: Any,
) -> None:
    """Write log share, share rank, log recent share, trend, and age in days (NaN if unknown)."""
    for place in range(len(rows)):
        row = rows[place]
        known, recent = max(share[row], LEAST_SHARE), recent_share[row]
        columns[0, place] = math.log(known)
        columns[1, place] = share_rank[row]
        columns[2, place] = math.log(max(recent, LEAST_SHARE))
        columns[3, place] = recent / known if share[row] > 0 else np.nan
        age_days = (as_of_s - first_played_s[row]) / DAY_S
        columns[4, place] = age_days if first_played_s[row] > 0 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def sum_affinities(
    rows: Any, played: Any, weights: Any, artists: Any, genres: Any, columns: Any
) -> None:
    """Write the weight of plays of the artist, their share, and the share of weight in its genres.

    `weights` are those of the plays, parallel to `played`.
    """
    play_artists, play_genres = artists[played], genres[played].ravel()
    by_artist, by_genre = np.zeros((2, len(played))), np.zeros(len(play_genres))
    artist_slots, genre_slots = places_of(play_artists), places_of(play_genres)
    total = 0.0
    for play in range(len(played)):
        place = place_of(artist_slots, play_artists, play_artists[play])
        by_artist[0, place] += weights[play]
        by_artist[1, place] += 1.0 / len(played)
        for genre in genres[played[play]]:
            if genre != NO_CODE:
                by_genre[place_of(genre_slots, play_genres, genre)] += weights[play]
                total += weights[play]
    for candidate in range(len(rows)):
        row = rows[candidate]
        place = place_of(artist_slots, play_artists, artists[row])
        columns[0, candidate] = by_artist[0, place] if place != NOWHERE else 0.0
        columns[1, candidate] = by_artist[1, place] if place != NOWHERE else 0.0
        shared = 0.0
        for genre in genres[row]:
            place = place_of(genre_slots, play_genres, genre)
            shared += by_genre[place] if place != NOWHERE else 0.0
        columns[2, candidate] = shared / max(total, 1e-9)


@njit(nogil=True, cache=True, error_model="numpy")
def rank_keys(scores: Any) -> Any:
    """Return int64 keys, the lowest for the highest score, then for the first of equal ones.

    `scores` are float32 and not NaN. The lower half of a key is the place.
    """
    falling = np.float32(0.0) - scores  # from zero: -0.0 must not stand apart from 0.0
    bits = falling.view(np.int32)
    keys = np.empty(len(scores), np.int64)
    for place in range(len(scores)):
        ordered = bits[place] if bits[place] >= 0 else bits[place] ^ ALL_BUT_SIGN
        keys[place] = (np.int64(ordered) << HALF_BITS) | place
    return keys


@njit(nogil=True, cache=True, error_model="numpy")
def write_ranks(sorted_keys: Any, column: Any) -> None:
    """Write 1 at the place of the first key to n at that of the last."""
    for rank in range(len(sorted_keys)):
        column[sorted_keys[rank] & LOW_HALF] = rank + 1
