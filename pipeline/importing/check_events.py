"""Raw events in, typed events out; every row that cannot be used is counted by its fault."""

from pipeline.importing.staging import Staging
from pipeline.log_directory import Order

ID_LIMIT_BYTES = 256
EVENT_LIMIT_BYTES = 64
YEAR_2101_S = 4_133_980_800

_READ = """
CREATE TEMP TABLE read_events AS
SELECT user_id, item_id, timestamp AS timestamp_text, unix_s(timestamp) AS timestamp,
       position AS position_text, whole_number(position) AS position,
       coalesce(event, 'play') AS event, value AS value_text,
       coalesce(TRY_CAST(value AS DOUBLE), 1.0) AS value, market
FROM raw_events
"""

# (fault, what is true of a row that has it); a row counts for the first that it has.
_ID_FAULTS = [
    (fault, condition)
    for column in ("user_id", "item_id")
    for fault, condition in (
        (f"missing {column}", f"{column} IS NULL"),
        (f"{column} longer than {ID_LIMIT_BYTES} bytes", f"strlen({column}) > {ID_LIMIT_BYTES}"),
        (f"control character in {column}", f"has_control({column})"),
    )
]
# 0 says "no time" in histories, so the first second of 1970 is none.
_ORDER_FAULTS: dict[Order, list[tuple[str, str]]] = {
    "time": [
        ("missing timestamp", "timestamp_text IS NULL"),
        ("unreadable timestamp", "timestamp IS NULL AND NOT is_number(timestamp_text)"),
        (
            "timestamp out of range (years 1970 to 2100)",
            f"timestamp IS NULL OR timestamp NOT BETWEEN 1 AND {YEAR_2101_S - 1}",
        ),
    ],
    "position": [("missing position", "position_text IS NULL")],
    "none": [],
}
_OTHER_FAULTS = [
    ("position is no whole number", "position_text IS NOT NULL AND position IS NULL"),
    ("unreadable value", "value_text IS NOT NULL AND TRY_CAST(value_text AS DOUBLE) IS NULL"),
    ("value not finite", "NOT isfinite(value)"),
    ("malformed market (not two capital letters)", "NOT is_market(market)"),
    (f"event name longer than {EVENT_LIMIT_BYTES} bytes", f"strlen(event) > {EVENT_LIMIT_BYTES}"),
    ("control character in event name", "has_control(event)"),
]
_CHECK = """
CREATE TEMP TABLE checked_events AS
SELECT user_id, item_id, timestamp, position, event, value, market, CASE {cases} END AS fault
FROM read_events
"""
_COUNT_FAULTS = "SELECT fault, count(*) FROM checked_events WHERE fault IS NOT NULL GROUP BY fault"

# In a log of positions a row that repeats another in everything is a copy. With times, or with
# no order at all, it may be a repeat play, and stays.
_USABLE: dict[Order, str] = {
    "time": "SELECT * FROM checked_events WHERE fault IS NULL",
    "position": "SELECT DISTINCT * FROM checked_events WHERE fault IS NULL",
    "none": "SELECT * FROM checked_events WHERE fault IS NULL",
}
_NUMBERED = """
row_number() OVER (PARTITION BY user_id
                   ORDER BY timestamp, position NULLS LAST, item_id, event, value, market) - 1
"""
_INSERT = """
INSERT INTO events
SELECT user_id, item_id, timestamp, {position}, event, value, market FROM ({usable})
"""


def check_events(staging: Staging, *, order: Order) -> None:
    """Fill `events` from `raw_events` and count the rows left out in `staging.rejected`."""
    connection = staging.connection
    connection.execute(_READ)
    connection.execute("DROP TABLE raw_events")
    faults = [*_ID_FAULTS, *_ORDER_FAULTS[order], *_OTHER_FAULTS]
    cases = " ".join(f"WHEN {condition} THEN '{fault}'" for fault, condition in faults)
    connection.execute(_CHECK.format(cases=cases))
    connection.execute("DROP TABLE read_events")
    staging.rejected.update(dict(connection.execute(_COUNT_FAULTS).fetchall()))
    _keep_usable(staging, order=order)


def _keep_usable(staging: Staging, *, order: Order) -> None:
    position = "NULL" if order == "none" else _NUMBERED
    staging.connection.execute(_INSERT.format(position=position, usable=_USABLE[order]))
    copies = _scalar(staging, "SELECT count(*) FROM checked_events WHERE fault IS NULL") - _scalar(
        staging, "SELECT count(*) FROM events"
    )
    if copies:
        staging.rejected["copy of another row"] += copies
    staging.connection.execute("DROP TABLE checked_events")


def _scalar(staging: Staging, query: str) -> int:
    return int(staging.connection.execute(query).fetchall()[0][0])
