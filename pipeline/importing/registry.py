"""Every layout that can be imported: a new one is its file, and one line here."""

from collections.abc import Callable
from pathlib import Path

from pipeline.importing.events import stage_events
from pipeline.importing.lastfm_2k import stage_lastfm_2k
from pipeline.importing.movielens_1m import stage_movielens_1m
from pipeline.importing.movielens_100k import stage_movielens_100k
from pipeline.importing.staging import Staging
from pipeline.importing.thirty_music import stage_30music
from pipeline.log_directory import Order

Stage = Callable[[Staging, Path], Order]
"""Fills `raw_events` and `raw_items` from a source, and says what orders its events."""

FORMATS: dict[str, Stage] = {
    "events": stage_events,
    "30music": stage_30music,
    "lastfm-2k": stage_lastfm_2k,
    "movielens-1m": stage_movielens_1m,
    "movielens-100k": stage_movielens_100k,
}
