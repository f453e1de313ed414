"""The fallback ladder: what an answer rests on, best rung first."""

from enum import IntEnum


class Tier(IntEnum):
    """A rung; the lower the number, the better. Numbers are those of the contract."""

    PERSONAL = 1
    """The taste of this user, read from stored plays."""
    RECENT_ITEMS = 2
    """Items like those just played."""
    TRENDING_MARKET_GENRE = 3
    """What trends in the request's market, in the user's genres."""
    TRENDING_MARKET = 4
    """What trends in the request's market."""
    TRENDING_GLOBAL = 5
    """What trends anywhere."""
    POPULARITY = 6
    """The bundle's popularity list."""
