"""Item and user keys: the 64-bit names of external ids inside tables."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def item_key(item_id: str) -> int:
    """Return the key of an external id: an integer in [0, 2**64).

    The first 8 bytes, big-endian, of the MD5 of the UTF-8 id. MD5 because DuckDB, Spark and
    BigQuery all compute it; nothing here relies on it against an adversary, and the publisher
    refuses a catalogue in which two ids share a key.
    """
    digest = hashlib.md5(item_id.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big")


def item_keys(item_ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return the keys of `item_ids`, in their order, as uint64 of the same length."""
    return np.fromiter(map(item_key, item_ids), dtype=np.uint64, count=len(item_ids))
