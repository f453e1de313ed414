"""A tiny bundle that training could have published: three tastes, sixty items, forty users."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from meshkit.bundles import Bundle, open_store
from pipeline.catalogue import Catalogue
from pipeline.event_log import EventLog, Events
from pipeline.recipe import Recipe
from pipeline.tables import Tables, build_tables
from pipeline.train import Report, publish
from services.ranker.domain.features import SOURCES, feature_names
from signals.bundle import (
    MARKET_COLUMNS,
    NO_CODE,
    NO_MARKET,
    GenreNames,
    ItemKeys,
    ItemTexts,
    ItemTraits,
    MarketRights,
    market_column,
)
from signals.keys import item_keys

TASTES = ("jazz", "rock", "techno")
ITEMS_PER_TASTE = 20
USERS = 40
AS_OF_S = 1_700_000_000
"""End of the log, unix seconds."""
LOG_S = 9 * 86_400
"""Length of the log in seconds; each taste and market has enough of it in a week to trend."""
SEED = 7

ITEM_IDS = tuple(f"{taste}-{number:02d}" for taste in TASTES for number in range(ITEMS_PER_TASTE))
USER_IDS = tuple(f"user-{number:02d}" for number in range(USERS))
"""User n listens mostly to `TASTES[n % 3]`."""
UNPLAYED_ID = "techno-19"
"""Nobody played it: no vector, no neighbours, no trend."""
UNTITLED_ID = "jazz-18"
"""Neither title, artist nor genre is known."""
ONLY_IN_SE_ID = "rock-01"
"""May be shown in the market SE alone."""


def taste_of(item_id: str) -> str:
    """Return the taste that an item belongs to."""
    return item_id.rpartition("-")[0]


def publish_small_bundle(root: Path) -> Bundle:
    """Publish the tiny bundle in the store at `root` and make it current."""
    report = Report(cuts="none: a bundle for tests", users=0, methods=(), notes=())
    now = datetime.fromtimestamp(AS_OF_S, UTC)
    return publish(open_store(root), small_tables(), _model_text(), report, now=now)


@cache
def small_tables() -> Tables:
    """Return the tiny bundle's tables."""
    return build_tables(
        small_log().events, small_log(), as_of_s=AS_OF_S, seed=SEED, recipe=Recipe(sources=SOURCES)
    )


@cache
def small_log() -> EventLog:
    """Return the log behind the tiny bundle."""
    keys = item_keys(USER_IDS)
    in_key_order = np.argsort(keys)
    return EventLog(
        order="time",
        events=_listening(_place_of(USER_IDS)),
        user_keys=keys[in_key_order],
        catalogue=_catalogue(),
        unplayed_items=0,
    )


def _catalogue() -> Catalogue:
    keys = item_keys(ITEM_IDS)
    ids = [ITEM_IDS[place] for place in np.argsort(keys)]
    named = [one != UNTITLED_ID for one in ids]
    own = np.arange(len(ids), dtype=np.uint32)
    genres = np.full((len(ids), 3), NO_CODE, dtype=np.uint16)
    genres[:, 0] = [TASTES.index(taste_of(one)) if one != UNTITLED_ID else NO_CODE for one in ids]
    allowed = np.ones((2, MARKET_COLUMNS), dtype=np.bool_)
    allowed[1] = np.arange(MARKET_COLUMNS) == market_column("SE")
    return Catalogue(
        keys=ItemKeys(np.sort(keys)),
        texts=ItemTexts.of(
            ids,
            [f"Título {one}" if has else "" for one, has in zip(ids, named, strict=True)],
            [f"Björk {one[:-1]}" if has else "" for one, has in zip(ids, named, strict=True)],
        ),
        traits=ItemTraits(
            artists=_equal_codes([one[:-1] if one != UNTITLED_ID else one for one in ids]),
            recordings=own,
            genres=genres,
            released=np.where(own % 4 == 0, np.nan, 1990 + own % 30).astype(np.float32),
            rights=np.array([one == ONLY_IN_SE_ID for one in ids], dtype=np.uint16),
        ),
        genre_names=GenreNames.of(TASTES),
        rights=MarketRights(allowed),
    )


def _equal_codes(names: list[str]) -> NDArray[np.uint32]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.uint32)


def _listening(user_place: dict[str, int]) -> Events:
    """Return plays that favour the user's taste and, within a taste, its first items."""
    random = np.random.default_rng(SEED)
    row_of = _place_of(ITEM_IDS)
    plays = []
    for number, user_id in enumerate(USER_IDS):
        market = (market_column("SE"), market_column("US"), NO_MARKET)[number % 3 if number else 2]
        times_s = np.sort(random.integers(AS_OF_S - LOG_S, AS_OF_S, size=random.integers(8, 30)))
        for time_s in times_s.tolist():
            item_id = _one_item(TASTES[number % 3], random)
            plays.append((user_place[user_id], time_s, row_of[item_id], market))
    users, times, rows, markets = (np.array(column) for column in zip(*sorted(plays), strict=True))
    return Events(
        users.astype(np.uint32),
        rows.astype(np.uint32),
        times.astype(np.int64),
        markets.astype(np.uint16),
    )


def _one_item(taste: str, random: np.random.Generator) -> str:
    other = TASTES[random.integers(len(TASTES))]
    number = int(ITEMS_PER_TASTE * random.random() ** 1.5)
    item_id = f"{taste if random.random() < 0.85 else other}-{number:02d}"
    return item_id if item_id != UNPLAYED_ID else f"{TASTES[-1]}-00"


def _place_of(ids: tuple[str, ...]) -> dict[str, int]:
    """Return the place of every id in key order."""
    order = np.argsort(item_keys(ids))
    return {ids[place]: number for number, place in enumerate(order.tolist())}


@cache
def _model_text() -> str:
    """Return a model of the right features that learned nothing: its data are random."""
    random = np.random.default_rng(SEED)
    names = feature_names()
    data = lgb.Dataset(
        random.random((200, len(names))),
        random.integers(0, 2, 200),
        group=[20] * 10,
        feature_name=list(names),
    )
    parameters = {
        "objective": "lambdarank",
        "num_leaves": 4,
        "min_data_in_leaf": 5,
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        "seed": SEED,
    }
    return str(lgb.train(parameters, data, 5).model_to_string())
