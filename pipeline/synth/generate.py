"""Generate a synthetic log directory."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np

from pipeline.log_directory import LogSummary, connect, new_log_directory, write_log
from pipeline.synth import words
from pipeline.synth.catalogue import EVERYWHERE, MARKETS, Catalogue, make_catalogue
from pipeline.synth.listeners import Listeners, make_listeners
from pipeline.synth.listening import Plays, listen
from pipeline.synth.settings import SynthSettings

FORMAT = "synth"

_LISTENING_SHARE = 0.6
"""Part of the whole time that listening takes, for the progress bar."""

_EVENTS = """
INSERT INTO events
SELECT format('usr_{:06d}', user), format('trk_{:06d}', item), at_s,
       row_number() OVER (PARTITION BY user ORDER BY at_s) - 1, 'play', 1.0, $markets[market + 1]
FROM plays
"""

# The factor is coprime to the number of names, so names differ and neighbours look unlike.
_ARTISTS = """
CREATE TEMP TABLE artists AS
SELECT number, CASE WHEN second < len($nouns) THEN invented || ' ' || $nouns[second + 1]
                    ELSE invented || ' & the ' || $plurals[second - len($nouns) + 1] END AS name
FROM (SELECT number, code // (len($starts) * len($ends)) AS second,
             $starts[code % len($starts) + 1] || $ends[code // len($starts) % len($ends) + 1]
             AS invented
      FROM (SELECT number, (number * 48271)
                   % (len($starts) * len($ends) * (len($nouns) + len($plurals))) AS code
            FROM range($artists) AS numbers(number)))
"""
_ITEMS = f"""
INSERT INTO items
SELECT format('trk_{{:06d}}', item),
       replace(replace($patterns[title // (len($adjectives) * len($nouns)) % len($patterns) + 1],
                       '{{adjective}}', $adjectives[title % len($adjectives) + 1]),
               '{{noun}}', $nouns[title // len($adjectives) % len($nouns) + 1]),
       name,
       CASE WHEN genre = second_genre THEN [$genres[genre + 1]]
            ELSE [$genres[genre + 1], $genres[second_genre + 1]] END,
       released_s,
       CASE WHEN rights = {EVERYWHERE} THEN []
            ELSE list_sort(list_filter($markets, lambda _, place: (rights >> (place - 1)) & 1 = 1))
       END
FROM tracks JOIN artists ON artist = number
"""  # noqa: S608 - our own constant


def synthesise_log(
    settings: SynthSettings,
    out: Path,
    *,
    replace: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
) -> LogSummary:
    """Write the world of `settings` to the log directory `out`: equal settings, equal bytes.

    `replace` allows `out` to be a log directory already. `on_progress` is told the share that is
    done, 0 to 1. Raises LogDirectoryError; nothing is left behind then.
    """
    with new_log_directory(out, replace=replace) as partial:
        rng = np.random.default_rng(settings.seed)
        catalogue = make_catalogue(rng, settings)
        listeners = make_listeners(rng, settings, catalogue.scenes)
        plays = listen(
            rng,
            settings,
            catalogue,
            listeners,
            on_progress=lambda share: on_progress(share * _LISTENING_SHARE),
        )
        with (
            tempfile.TemporaryDirectory(dir=partial) as scratch,
            connect(Path(scratch)) as connection,
        ):
            _insert_items(connection, catalogue)
            _insert_events(connection, plays, listeners)
            summary = write_log(connection, partial, log_format=FORMAT, order="time", rejected={})
        on_progress(1.0)
        return summary


def _insert_events(
    connection: duckdb.DuckDBPyConnection, plays: Plays, listeners: Listeners
) -> None:
    columns = {
        "user": plays.user,
        "item": plays.item,
        "at_s": plays.at_s,
        "market": listeners.market[plays.user],
    }
    connection.register("plays", columns)
    connection.execute(_EVENTS, {"markets": list(MARKETS)})
    connection.unregister("plays")


def _insert_items(connection: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
    columns = {
        "item": np.arange(len(catalogue.artist)),
        "artist": catalogue.artist,
        "title": catalogue.title,
        "genre": catalogue.scenes.genre[catalogue.scene],
        "second_genre": catalogue.second_genre,
        "released_s": catalogue.released_s,
        "rights": catalogue.rights,
    }
    connection.register("tracks", columns)
    connection.execute(
        _ARTISTS,
        {
            "artists": int(catalogue.artist.max()) + 1,
            "starts": list(words.NAME_STARTS),
            "ends": list(words.NAME_ENDS),
            "nouns": list(words.BAND_NOUNS),
            "plurals": list(words.BAND_PLURALS),
        },
    )
    connection.execute(
        _ITEMS,
        {
            "patterns": list(words.TITLE_PATTERNS),
            "adjectives": list(words.TITLE_ADJECTIVES),
            "nouns": list(words.TITLE_NOUNS),
            "genres": list(words.GENRES),
            "markets": list(MARKETS),
        },
    )
    connection.unregister("tracks")
